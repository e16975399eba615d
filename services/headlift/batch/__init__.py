"""Many portraits at once: a manifest in; heads, pictures and one result row an item out. Goes on where it stopped."""
