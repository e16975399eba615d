"""What is trained, one task a file; `interface` says what a task is, `build` makes one of a recipe."""
