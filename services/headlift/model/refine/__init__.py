"""Refine: a few gradient steps of the Gaussians against the input picture."""

from headlift.model.refine.neighborhood import Neighborhood
from headlift.model.refine.settings import RefineSettings
from headlift.model.refine.stage import Refine, RefineResult

__all__ = ["Neighborhood", "Refine", "RefineResult", "RefineSettings"]
