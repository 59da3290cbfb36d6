"""Looking into graphs, functions and models: as text, as pictures, as statistics."""
