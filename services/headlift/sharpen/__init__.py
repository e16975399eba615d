"""Stage 5: the sharpening network over splatted pictures."""
