"""Training and judging the editor: the small CLIP, the editing encoder, their data and figures."""
