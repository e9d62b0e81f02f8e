"""Binary trees as arrays, so that a batch walks all trees at once: what isolation forests and half-space trees share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray


class Tree(NamedTuple):
    """One tree, node 0 its root. A node goes to `left` where the value of `feature` is at most `threshold`, else to `right`; -1 in a leaf."""

    feature: ArrayLike
    threshold: ArrayLike
    left: ArrayLike
    right: ArrayLike


class Forest:
    """Trees laid out flat. The result of a row depends on that row only, never on the batch it comes in.

    Attributes:
        roots: node number of each tree's root.
        depth: depth of each node, 0 at a root.
        children: right child of node i at 2 i, left child at 2 i + 1; a leaf is its own child.
        levels: numbers of the inner nodes, by depth.
    """

    def __init__(self, trees: Sequence[Tree]) -> None:
        sizes = [len(np.asarray(tree.feature)) for tree in trees]
        self.roots = np.concatenate(([0], np.cumsum(sizes)[:-1])).astype(np.int64)
        start = np.repeat(self.roots, sizes)
        left = np.concatenate([np.asarray(tree.left, dtype=np.int64) for tree in trees])
        right = np.concatenate([np.asarray(tree.right, dtype=np.int64) for tree in trees])
        itself = np.arange(len(left))
        leaf = left < 0
        # A leaf leads to itself: a walk as long as the deepest tree ends in a leaf everywhere.
        self.children = np.stack((np.where(leaf, itself, right + start), np.where(leaf, itself, left + start)), axis=1).reshape(-1)
        self.feature = np.where(leaf, 0, np.concatenate([np.asarray(tree.feature, dtype=np.int64) for tree in trees]))
        self.threshold = np.concatenate([np.asarray(tree.threshold, dtype=np.float64) for tree in trees])
        self.depth = np.zeros(len(leaf), dtype=np.int64)
        self.levels: list[NDArray[np.int64]] = []
        reached = self.roots
        while len(reached):
            self.depth[reached] = len(self.levels)
            inner = reached[~leaf[reached]]
            self.levels.append(inner)
            reached = self.children.reshape(-1, 2)[inner].reshape(-1)
        self.levels.pop()

    def leaves(self, X: NDArray[np.floating]) -> NDArray[np.int64]:
        """Node number of the leaf that each row of `X` (n, features) reaches in each tree: (n, trees)."""
        rows = np.arange(len(X))[:, None]
        node: NDArray[np.int64] = np.broadcast_to(self.roots, (len(X), len(self.roots)))
        for _ in self.levels:
            node = self.children[2 * node + (X[rows, self.feature[node]] <= self.threshold[node])]
        return np.ascontiguousarray(node)  # so that sums over trees add in one order, whatever n
