"""Heads made by our own code alone: an implicit head, displacement fields, drawn textures, strand hair."""

from headlift_trainer.synthetic.source.procedural.source import ProceduralHead, ProceduralSource

__all__ = ["ProceduralHead", "ProceduralSource"]
