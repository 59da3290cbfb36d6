"""Passes over whole graphs, a file for each."""
