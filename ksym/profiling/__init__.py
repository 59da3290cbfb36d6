"""Profiling: the time, memory and work of a function by operator, layer, line, and part."""
