"""Where heads are kept: blobs in a checked envelope, the file store, heads and the stage cache above them."""
