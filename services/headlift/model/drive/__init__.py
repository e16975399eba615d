"""Driving: a head that was made once performs expressions, gaze and turns of the head."""

from headlift.model.drive.deform import BoundRig, bind, drive
from headlift.model.drive.pose import Performance
from headlift.model.drive.rig import ARKIT_NAMES, Rig, load_rig

__all__ = ["ARKIT_NAMES", "BoundRig", "Performance", "Rig", "bind", "drive", "load_rig"]
