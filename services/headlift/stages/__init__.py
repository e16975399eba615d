"""The stages: plain callables that compute; what carries messages to them lies above."""
