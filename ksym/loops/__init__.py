"""Loops and branches: what users call, the nodes that it makes, and recurrent layers."""
