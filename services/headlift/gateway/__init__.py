"""The public API: HeadService against a Pipeline, whatever runs it. Read service.py first."""
