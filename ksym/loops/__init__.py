"""Loops and branches: the functions that users call, their nodes, and recurrent layers."""
