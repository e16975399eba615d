"""EditService: maps, strokes and styles in, heads out."""
