"""Half-space trees (Tan, Ting and Liu 2011): River builds the trees, `models.forest` walks them and counts masses.

Same scores as `river.anomaly.HalfSpaceTrees` that scores each row before it learns it (a test holds the two together), because masses
change only where a window ends and counting is additive. Costs a tenth of walking River's nodes one row at a time.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from river.anomaly import HalfSpaceTrees as RiverHalfSpaceTrees

from models.forest import Forest, Tree

RANGE: Final = 8.0
"""Scaled features beyond ±RANGE are as good as at it."""


def _tree(root: Any, features: dict[str, int]) -> Tree:
    """A River tree as arrays, its nodes in breadth-first order."""
    order = [root]
    nodes: list[tuple[int, float, int, int]] = []
    for node in order:
        children = getattr(node, "children", None)
        if not children:
            nodes.append((0, 0.0, -1, -1))
            continue
        # River goes left where the value is below the threshold, `Forest` where it is at most the number before it.
        nodes.append((features[node.feature], float(np.nextafter(node.threshold, -np.inf)), len(order), len(order) + 1))
        order.extend(children)
    return Tree(*zip(*nodes, strict=True))


def unit(X: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scaled rows mapped to [0, 1], the range River's trees split."""
    return np.clip(X / (2.0 * RANGE) + 0.5, 0.0, 1.0)


class Masses(NamedTuple):
    """What the trees have counted: masses of the leaves in the last whole and in the present window, and rows in the latter."""

    reference: NDArray[np.int64] | None
    latest: NDArray[np.int64]
    seen: int


class HalfSpaceTrees:
    """Scores in [0, 1]; higher is more anomalous."""

    name = "half_space_trees"

    def __init__(self, features: int, *, trees: int = 25, height: int = 8, window: int = 256, seed: int = 0) -> None:
        names = {f"{position:04d}": position for position in range(features)}
        river = RiverHalfSpaceTrees(n_trees=trees, height=height, window_size=window, seed=seed)
        river.learn_one(dict.fromkeys(names, 0.5))  # builds the trees
        self._forest = Forest([_tree(root, names) for root in river.trees])
        self._window = window
        self._height = height
        self._latest = np.zeros(len(self._forest.depth), dtype=np.int64)
        """Mass of each leaf in the window that is being counted."""
        self._seen = 0
        self._reference: NDArray[np.int64] | None = None
        """Mass of each leaf in the last whole window, which scores."""
        self._paths: NDArray[np.float64] | None = None

    @property
    def ready(self) -> bool:
        """Whether a window has been counted."""
        return self._paths is not None

    def score(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        """Scores of the rows of `X` (n, features) by the last whole window: (n,)."""
        assert self._paths is not None, "learn a window first"
        most = len(self._forest.roots) * self._window * (2 ** (self._height + 1) - 1)
        return np.asarray(1.0 - self._paths[self._forest.leaves(unit(X))].sum(axis=1) / most)

    def learn(self, X: NDArray[np.float64]) -> None:
        """Counts the rows of `X` (n, features), in order."""
        X = unit(X)
        start = 0
        while start < len(X):
            part = X[start : start + self._window - self._seen]
            self._latest += np.bincount(self._forest.leaves(part).ravel(), minlength=len(self._latest))
            self._seen += len(part)
            start += len(part)
            if self._seen == self._window:
                self._pivot()

    def renew(self, X: NDArray[np.float64]) -> None:
        """Starts again with a window made of the rows of `X` (n, features), n at least 1, repeated where they are too few.

        For when the scale of the rows has changed, so that the masses counted before no longer fit.
        """
        self._latest[:] = 0
        self._seen = 0
        self.learn(np.resize(X[-self._window :], (self._window, X.shape[1])))

    def _pivot(self) -> None:
        """The counted window becomes the one to score by."""
        self._reference = self._latest
        self._paths = self._path_scores(self._reference)
        self._latest = np.zeros_like(self._latest)
        self._seen = 0

    def masses(self) -> Masses:
        """The whole state: trees come from the seed."""
        return Masses(self._reference, self._latest.copy(), self._seen)

    def take(self, masses: Masses) -> None:
        """Takes up a state that `masses` gave, of trees with the same settings."""
        self._reference, self._latest, self._seen = masses
        self._paths = None if self._reference is None else self._path_scores(self._reference)

    def _path_scores(self, leaf_mass: NDArray[np.int64]) -> NDArray[np.float64]:
        """Sum of mass times 2^depth from the root to each node, stopped below the first node of less than a tenth of the window."""
        mass = leaf_mass.astype(np.float64)
        children = self._forest.children.reshape(-1, 2)
        for inner in reversed(self._forest.levels):
            mass[inner] = mass[children[inner]].sum(axis=1)
        paths = np.zeros(len(mass))
        paths[self._forest.roots] = mass[self._forest.roots]
        for depth, inner in enumerate(self._forest.levels):
            goes_on = (mass[inner] >= 0.1 * self._window)[:, None]
            paths[children[inner]] = paths[inner][:, None] + np.where(goes_on, mass[children[inner]] * 2.0 ** (depth + 1), 0.0)
        return paths
