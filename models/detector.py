"""What every learned detector is, and how its scores are told."""

from __future__ import annotations

from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

DECADES: Final = 4.0
"""Tail probability that means 1.0, in powers of ten: one ordinary event in 10,000."""


class Detector(Protocol):
    """A detector of rows unlike the others.

    Direction: a higher raw score is more anomalous, in every detector. The range is stated by each and of no consequence, because
    `models.calibration` makes tail probabilities of raw scores. Scoring changes nothing; a row's score depends on that row and on
    what was fitted or learned before, never on the rows beside it.
    """

    name: str

    def score(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        """Raw scores of the rows of `X` (n, features), as `models.scaling` gives them: (n,)."""


class FittedDetector(Detector, Protocol):
    """A detector that is fitted anew from a sample of the past."""

    def fit(self, X: NDArray[np.float64]) -> None:
        """Replaces what was fitted before. The same rows in the same order give the same detector."""


class OnlineDetector(Detector, Protocol):
    """A detector that takes up rows as they come."""

    def learn(self, X: NDArray[np.float64]) -> None:
        """Takes up the rows of `X` (n, features), in order; one by one or together comes to the same."""


def told(tail: NDArray[np.float64]) -> NDArray[np.float64]:
    """Tail probabilities (n,) as scores in [0, 1]: 0.25 is one ordinary event in ten, 0.5 one in 100, 0.75 one in 1,000, 1.0 one in 10,000."""
    return np.clip(-np.log10(tail) / DECADES, 0.0, 1.0)
