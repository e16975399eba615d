"""Subcommands that the trainer adds to ``headlift``; heavy imports wait inside the functions."""
