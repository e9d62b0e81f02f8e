"""Features on one scale: robust, bounded, and on a grid that keeps float64 arithmetic exact."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

LIMIT: Final = 16.0
STEPS: Final = 256.0
"""Grid steps a unit. |value| <= 2^4 in steps of 2^-8: products have 24 bits, sums of 1,000 of them 34, float64 holds 53."""


class Scaler:
    """Centres by the median and divides by a robust spread."""

    def __init__(self) -> None:
        self._centre: NDArray[np.float64] | None = None
        self._spread: NDArray[np.float64] = np.empty(0)

    @property
    def centre(self) -> NDArray[np.float64]:
        """The ordinary value (median) of each feature: (features,)."""
        assert self._centre is not None, "fit first"
        return self._centre

    def fit(self, X: NDArray[np.floating]) -> None:
        """Learns centre and spread from the rows of `X` (n, features), n at least 1."""
        rows = X.astype(np.float64)
        low, centre, high = np.quantile(rows, (0.02, 0.5, 0.98), axis=0)
        # The middle 96 % span about 4.1 standard deviations of a normal distribution. Counts that are nearly always 0 have no
        # middle: they fall back to the standard deviation, and constants to 1.
        spread = (high - low) / 4.1
        deviation = rows.std(axis=0)
        spread = np.where(spread > 1e-9, spread, deviation)
        self._centre = centre
        self._spread = np.where(spread > 1e-9, spread, 1.0)

    def transform(self, X: NDArray[np.floating]) -> NDArray[np.float64]:
        """The rows of `X` (n, features) in spreads from the centre, within ±`LIMIT`, on the grid."""
        scaled = (X.astype(np.float64) - self.centre) / self._spread
        # Beyond 4 spreads a logarithm: an outlier stays one without drowning the other features.
        size = np.abs(scaled)
        scaled = np.where(size > 4.0, np.sign(scaled) * (4.0 + np.log1p(np.maximum(size - 4.0, 0.0))), scaled)
        return np.asarray(np.round(np.clip(scaled, -LIMIT, LIMIT) * STEPS) / STEPS)
