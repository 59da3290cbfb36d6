"""Operators that create arrays, change their shapes, and move, take and join their elements."""
