"""Runtimes of the public API, and the client SDK. Read embedded.py for the server, client/ for the other side."""
