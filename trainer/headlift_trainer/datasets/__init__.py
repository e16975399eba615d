"""Training data behind one interface: batches of pictures with cameras and what the model should answer."""
