"""Training HeadNet on generated heads: `landmarks`, `data`, `augment`, `task`, `figures`."""
