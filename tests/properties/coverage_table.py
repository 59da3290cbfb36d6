"""Counting what the property tests covered, to be printed at their end."""

from __future__ import annotations

from collections import Counter, defaultdict

from ksym.graph import OPERATORS

CHECKS = ("values", "gradients", "second order", "unknown dimensions", "mistakes")

_examples: defaultdict[str, Counter[str]] = defaultdict(Counter)


def record(name: str, check: str) -> None:
    """Count one example of a check of an operator."""
    _examples[name][check] += 1


def counts() -> dict[str, dict[str, int]]:
    """Return the examples of each operator and check, as plain dictionaries."""
    return {name: dict(found) for name, found in _examples.items()}


def add(others: dict[str, dict[str, int]]) -> None:
    """Add what another process counted."""
    for name, found in others.items():
        _examples[name].update(found)


def lines(full: bool) -> list[str]:
    """Return the summary, and with full a line for each operator."""
    if not _examples:
        return []
    proven = {check: sum(bool(c[check]) for c in _examples.values()) for check in CHECKS}
    total = sum(sum(c.values()) for c in _examples.values())
    result = [
        f"operators: {len(OPERATORS)} declared, {proven['values']} with values, "
        f"{proven['gradients']} with first-order gradients, {proven['second order']} with "
        f"second-order gradients, {proven['mistakes']} with mistakes proven; {total} examples"
    ]
    if full:
        result.append(f"{'operator':28s}" + "".join(f"{check:>20s}" for check in CHECKS))
        for name in sorted(OPERATORS):
            found = _examples[name]
            result.append(f"{name:28s}" + "".join(f"{found[check]:20d}" for check in CHECKS))
    for name, operator in sorted(OPERATORS.items()):
        result.extend(
            f"{name}: not in {check}: {reason}" for check, reason in operator.unproven.items()
        )
        if operator.conditioning.reason:
            factor, reason = operator.conditioning
            result.append(f"{name}: bounds times {factor:g}: {reason}")
    return result
