"""Live: sessions that answer the newest frame or viewpoint. Read session.py first."""
