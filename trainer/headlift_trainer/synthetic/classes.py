"""Classes of the parsing, in facer's `celebm` order."""

from __future__ import annotations

BACKGROUND, NECK, FACE, CLOTH, EAR_R, EAR_L, BROW_R, BROW_L, EYE_R, EYE_L, NOSE, MOUTH, LIP_LOW, LIP_UP, HAIR = range(
    15
)
GLASSES, HAT, EARRING, NECKLACE = 15, 16, 17, 18
