"""Local outlier factor (Breunig et al. 2000) for novelty: scikit-learn fits the references, one matrix product scores.

The rows come from `models.scaling`, on a grid coarse enough that the product of float64 matrices is exact whatever the order of
its sums. A row's score therefore does not depend on the batch it comes in, which BLAS alone does not promise.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray
from sklearn.neighbors import LocalOutlierFactor as SkLocalOutlierFactor
from threadpoolctl import ThreadpoolController  # ships no types


@cache
def _threads() -> ThreadpoolController:
    """Finding the thread pools takes milliseconds, so they are found once."""
    return ThreadpoolController()


class LocalOutlierFactor:
    """Scores above 0; higher is more anomalous, about 1 is average."""

    name = "local_outlier_factor"

    def __init__(self, *, neighbours: int = 50, references: int = 1024) -> None:
        self._neighbours = neighbours
        self._references = references
        self._rows: NDArray[np.float64] | None = None

    def fit(self, X: NDArray[np.float64]) -> None:
        """Takes the distinct rows of `X` (n, features) as references, at least 3 of them.

        Distinct, because more equal rows than neighbours would have infinite density and make every other row an outlier.
        """
        rows = np.unique(X, axis=0)
        if len(rows) > self._references:
            # Evenly through the sorted rows: deterministic, and every part of the space keeps its share.
            rows = rows[np.linspace(0, len(rows) - 1, self._references).astype(np.int64)]
        self._k = max(1, min(self._neighbours, len(rows) // 5))
        with _threads().limit(limits=1):
            model = SkLocalOutlierFactor(n_neighbors=self._k, novelty=True, algorithm="brute", n_jobs=1).fit(rows)
        distances = model._distances_fit_X_
        self._rows = rows
        self._norms = np.einsum("ij,ij->i", rows, rows)
        self._core = distances[:, self._k - 1].copy()
        """Distance of each reference to its k-th neighbour."""
        self._density = model._lrd.copy()
        """Local reachability density of each reference."""

    def score(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        """Scores of the rows of `X` (n, features) on the grid: (n,)."""
        assert self._rows is not None, "fit first"
        with _threads().limit(limits=1):
            squares = X @ self._rows.T
        squares *= -2.0
        squares += self._norms
        squares += np.einsum("ij,ij->i", X, X)[:, None]
        near = np.argpartition(squares, self._k - 1, axis=1)[:, : self._k]
        distances = np.sqrt(np.take_along_axis(squares, near, axis=1))
        reach = np.maximum(distances, self._core[near])
        density = 1.0 / (reach.mean(axis=1) + 1e-10)
        return np.asarray(self._density[near].mean(axis=1) / density)
