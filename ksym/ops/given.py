"""Which nodes have their values before anything of a graph runs."""

from __future__ import annotations

from ksym.graph import Node
from ksym.ops.leaves import constant, placeholder, variable_leaf
from ksym.ops.random.standard import Drawn


def is_leaf(node: Node) -> bool:
    """Whether a node's value is there before anything runs, so that every part can read it."""
    return node.operator in (placeholder, variable_leaf, constant) or is_drawn(node)


def is_drawn(node: Node) -> bool:
    """Whether a node's value is drawn before anything runs."""
    return isinstance(node.operator, Drawn)


def is_drawn_ahead(node: Node) -> bool:
    """Whether a node draws random numbers that those of many steps can be drawn with."""
    return isinstance(node.operator, Drawn) and node.operator.independent
