"""Makes the template that a model starts from: the built-in head or FLAME, and anchors spread over it."""
