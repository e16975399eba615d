"""Editing: a painted map says where everything is, a style embedding how it appears; read ``model.py`` first."""
