"""Saving functions: the layout of the file, the graph in it, and what users call."""
