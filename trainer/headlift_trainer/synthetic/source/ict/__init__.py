"""Heads of ICT-FaceKit: shapes of light-stage scans, dressed in MakeHuman's skins, hair, brows, teeth and clothes."""

from headlift_trainer.synthetic.source.ict.source import IctHead, IctSource

__all__ = ["IctHead", "IctSource"]
