"""The renderer: triangles, light and cameras to pictures with labels; knows nothing of heads."""
