"""Nested dicts of arrays."""

from typing import Any

from flax import traverse_util

Tree = Any  # nested dict of arrays


def merged(*trees: Tree) -> Tree:
    """One tree with the leaves of all, which must be distinct."""
    leaves = {}
    for tree in trees:
        leaves |= traverse_util.flatten_dict(tree)
    return traverse_util.unflatten_dict(leaves)
