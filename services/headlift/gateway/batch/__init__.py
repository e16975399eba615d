"""BatchService: many heads as one long-running operation."""
