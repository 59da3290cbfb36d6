"""What the fuzzers did, summed up to be printed."""

from __future__ import annotations

from collections import Counter

totals: Counter[str] = Counter()
operators: Counter[str] = Counter()


def add(**counts):
    """Add to the totals."""
    totals.update(counts)


def cover(names):
    """Add to how often operators were compared."""
    operators.update(names)


def report():
    """Return what was done, as text."""
    counts = ", ".join(f"{number:,} {what}" for what, number in totals.items())
    rare = ", ".join(f"{name} {count}" for name, count in operators.most_common()[:-11:-1])
    return f"{counts}\n{len(operators)} operators compared, those compared least: {rare}"
