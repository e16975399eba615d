"""Hair and beards: cuts, strands, shells, colours."""
