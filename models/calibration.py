"""Raw scores to tail probabilities that mean the same for every detector and keep meaning it while the stream drifts.

A detector's raw score is compared with its own scores of the last `capacity` ordinary events. Up to their 90 % quantile the tail
probability is the empirical one (rank / (n + 1)); above it the excesses are taken as exponential (the peaks-over-threshold method
with shape 0: Pickands 1975; Siffer et al. 2017 for streams), so that scores beyond all that was seen are still told apart.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

TAIL: Final = 0.1
"""Share of the reference scores that make up the tail."""

FLOOR: Final = 1e-12
"""Smallest tail probability that is told."""


class TailCalibrator:
    """Tail probabilities by a sliding window of reference scores.

    Attributes:
        window: the reference scores, oldest first: (at most capacity,).
    """

    def __init__(self, capacity: int = 2048) -> None:
        self._capacity = capacity
        self.window: NDArray[np.float64] = np.empty(0)
        self._sorted = self.window
        self._start = 0.0
        self._excess = 1.0

    def renew(self, scores: NDArray[np.float64]) -> None:
        """Starts again from `scores` (n,): what the detector that was just fitted says about known events."""
        self.window = np.empty(0)
        self.extend(scores)

    def extend(self, scores: NDArray[np.float64]) -> None:
        """Takes up scores (n,) of newly learned events, in order."""
        self.window = np.concatenate((self.window, scores))[-self._capacity :]
        self._sorted = np.sort(self.window)
        count = len(self._sorted)
        first = int(count * (1.0 - TAIL))
        self._start = float(self._sorted[first])
        tail = self._sorted[first:] - self._start
        # Robust: a few very high scores in the window must not flatten the tail, so its median sets the scale.
        spread = float(np.median(tail)) / float(np.log(2.0))
        self._excess = max(spread, 1e-9 * max(1.0, abs(self._start)))

    def tail(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """Probability in (0, 1] that an ordinary event scores at least as high: (n,)."""
        count = len(self._sorted)
        rank = count - np.searchsorted(self._sorted, scores, side="left")
        empirical = (rank + 1.0) / (count + 1.0)
        beyond = TAIL * np.exp(-np.maximum(scores - self._start, 0.0) / self._excess)
        return np.maximum(np.where(scores > self._start, beyond, np.maximum(empirical, TAIL)), FLOOR)
