"""Stage 4: a head becomes views; and what is made of views: pictures, films, contact sheets."""
