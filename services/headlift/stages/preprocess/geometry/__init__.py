"""The portrait crop: where a head has to lie in it, and the maps that bring it there."""
