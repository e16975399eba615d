"""Refine: a few gradient steps of the Gaussians against the input picture."""

from headlift.refine.settings import RefineSettings
from headlift.refine.stage import Neighborhood, Refine, RefineResult

__all__ = ["Neighborhood", "Refine", "RefineResult", "RefineSettings"]
