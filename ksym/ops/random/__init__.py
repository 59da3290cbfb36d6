"""Random numbers, and the streams that they come from."""
