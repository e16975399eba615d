"""What skin looks like: tone, creases, spots, makeup."""
