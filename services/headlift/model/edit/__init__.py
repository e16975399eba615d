"""Editing: a painted map says where everything is, a style embedding how it looks; read ``model.py`` first."""
