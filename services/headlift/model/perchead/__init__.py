"""PercHead, the paper and nothing else; read ``model.py`` first."""
