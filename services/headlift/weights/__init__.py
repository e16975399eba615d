"""The weights that ship with the package: `mini.safetensors`, described in MODEL_CARD.md."""
