"""Stage 2: a portrait becomes image tokens."""
