"""Training HeadNet on generated heads: `landmarks`, `data`, `augment`, `figures`; the task is in `tasks`."""
