"""Bytes of a picture file to pixels: safe decoding, orientation, colour."""
