"""Other people's networks, loaded from local files with checked hashes: never fetched, never shipped."""
