"""Predicates of nodes whose values are given before a graph runs."""

from __future__ import annotations

from ksym.graph import Node
from ksym.ops.leaves import constant, folded_leaf, placeholder, variable_leaf
from ksym.ops.random.standard import Drawn


def is_leaf(node: Node) -> bool:
    """Return whether a node's value is given before a graph runs, so that all parts can read it."""
    return node.operator in (placeholder, variable_leaf, constant, folded_leaf) or is_drawn(node)


def is_drawn(node: Node) -> bool:
    """Return whether a node's value is drawn before a graph runs."""
    return isinstance(node.operator, Drawn)


def is_drawn_ahead(node: Node) -> bool:
    """Return whether a node draws numbers that can be drawn for many steps of a loop at once."""
    return isinstance(node.operator, Drawn) and node.operator.independent
