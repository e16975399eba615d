"""Stage 3: image tokens become a head."""
