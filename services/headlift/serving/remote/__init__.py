"""Stages in other processes: how they are asked, and how they answer. Knows no Ray; ``serving.ray_app`` does."""
