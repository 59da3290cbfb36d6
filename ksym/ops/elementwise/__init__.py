"""Operators on each element alone, or on those at the same place."""
