"""A bounded, deterministic sample of the past that slowly forgets."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

_GAMMA: Final = np.uint64(0x9E3779B97F4A7C15)


def _mix(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64 (Steele, Lea and Flood 2014): a well-mixed number a position, with no state to keep."""
    z = numbers * _GAMMA
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


class Reservoir:
    """Rows sampled from a stream.

    The first `memory` rows are sampled uniformly (algorithm R, Vitter 1985); from then on a row enters with probability
    capacity / memory, so that the past fades with a mean age of `memory` rows (Aggarwal 2006). Row number and seed alone
    decide, so the sample is the same however the stream is cut.

    Attributes:
        rows: float32 (at most capacity, features).
        seen: rows offered so far.
    """

    def __init__(self, features: int, *, capacity: int, memory: int, seed: int) -> None:
        self.capacity = capacity
        self._memory = memory
        self._seed = seed
        self.rows: NDArray[np.float32] = np.empty((0, features), dtype=np.float32)
        self.seen = 0

    def offer(self, X: NDArray[np.float32]) -> None:
        """Offers the rows of `X` (n, features), in order."""
        room = min(len(X), self.capacity - len(self.rows))
        if room > 0:
            self.rows = np.concatenate((self.rows, X[:room]))
        else:
            room = 0
        numbers = np.arange(self.seen + room, self.seen + len(X), dtype=np.uint64)
        self.seen += len(X)
        if not len(numbers):
            return
        reach = np.minimum(numbers + np.uint64(1), np.uint64(self._memory))
        slots = _mix(numbers + np.uint64(self._seed) * np.uint64(0x100000001)) % reach
        rows = self.rows.copy()
        for position in np.flatnonzero(slots < np.uint64(self.capacity)):
            rows[int(slots[position])] = X[room + position]
        self.rows = rows
