"""``mini``, our own small model, composed around the paper's decoder; read ``model.py`` first."""
