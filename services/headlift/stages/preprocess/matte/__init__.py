"""Cutting a person out of a picture."""
