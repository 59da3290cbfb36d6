"""Passes over loops: dead code elimination, residuals, and code motion out of loops."""
