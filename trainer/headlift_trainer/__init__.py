"""Data, losses and the loops that make the weights. Reads like: recipes.py, then train.py, then step.py."""
