"""Random numbers, and the streams they are drawn from."""
