"""Fusion: the choice of nodes that generated kernels compute, and their description."""
