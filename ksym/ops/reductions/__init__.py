"""What many elements are reduced to, running totals, and sorting."""
