"""Reductions, running totals, and sorting."""
