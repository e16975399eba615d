"""The mathematics: torch and numpy only, no I/O but checkpoints and templates. Read perchead.py first."""
