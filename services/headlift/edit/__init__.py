"""Edit: map, words and pictures to heads, and what changed to the head that was there before."""
