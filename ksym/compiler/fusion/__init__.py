"""Fusing: which nodes are computed by kernels of our own, and what these are."""
