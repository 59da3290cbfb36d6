"""Products and decompositions of matrices, and systems of equations."""
