"""Video and images for people: frames of clips, H.264 films, contact sheets."""
