"""Finding heads in a picture."""
