"""The learned ensemble of one partition: isolation forest, local outlier factor and half-space trees.

Learning goes by epochs of the partition's events, never by the clock or by batches: events are scored by the state frozen at the last
epoch boundary and learned at the next one, so the same log gives the same scores however it is cut into batches.

- *Abstaining*: until the first fit (`EnsembleConfig.first_fit` events) members are None and the anomaly is 0.
- *Fitting*: forest and factor are fitted from a reservoir of the past at event counts that grow by `fit_growth` up to
  `fit_every`, then every `fit_every`. Half the reservoir is the factor's references, the other half calibrates.
- *Calibration*: tail probabilities against the member's own recent scores, see `models.calibration` and `models.detector.told`.
- *Combination without labels*: the mean of the members' scores, weighted by `EnsembleConfig.weights` and each capped at 1: Fisher's
  sum of log probabilities with no member able to decide alone. The factor weighs half: density in many dimensions says less.
- *Guard against poisoning and self-deception*: what looks anomalous to two members, or what the caller does not trust, is learned
  only one time in `learn_suspects_every`. A new normal is still learned, slowly.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final, NamedTuple

import numpy as np
import river
import sklearn
from numpy.typing import NDArray

from models import checkpoint
from models.calibration import TailCalibrator
from models.detector import told
from models.half_space_trees import HalfSpaceTrees
from models.isolation_forest import IsolationForest
from models.local_outlier_factor import LocalOutlierFactor
from models.metrics import Metrics
from models.reservoir import Reservoir
from models.scaling import Scaler

MEMBERS: Final = (IsolationForest.name, LocalOutlierFactor.name, HalfSpaceTrees.name)
EXPLAINED: Final = 8
"""Features of an anomalous event that are tried as reasons."""


@dataclass(frozen=True, slots=True)
class EnsembleConfig:
    """Settings; part of the model version. Counts are events of the partition."""

    epoch: int = 128
    first_fit: int = 256
    fit_growth: int = 4
    fit_every: int = 16_384
    reservoir: int = 2048
    memory: int = 32_768
    trees: int = 64
    samples: int = 256
    neighbours: int = 200
    references: int = 1024
    hst_trees: int = 64
    hst_height: int = 6
    hst_window: int = 1024
    weights: tuple[float, float, float] = (0.4, 0.2, 0.4)
    suspect_tail: float = 0.02
    learn_suspects_every: int = 16
    explain_from: float = 0.5
    keep_every: int = 2_000
    seed: int = 20_260_116

    def version(self, features: str) -> str:
        """Names the settings, the libraries that fit and the dictionary of features `features`."""
        return sha256(f"{self}|{sklearn.__version__}|{river.__version__}|{features}".encode()).hexdigest()[:10]


class Scored(NamedTuple):
    """Scores of n rows.

    Attributes:
        members: (n, 3) in [0, 1], in the order of `MEMBERS`; NaN where the members abstain.
        anomaly: (n,) in [0, 1]; 0 where they abstain.
        fits: (n,) which fit scored, 0 for none.
        causes: by row of an anomaly of at least `explain_from`: (feature, share of the anomaly) strongest first.
    """

    members: NDArray[np.float64]
    anomaly: NDArray[np.float64]
    fits: NDArray[np.int64]
    causes: dict[int, list[tuple[int, float]]]


class Pending(NamedTuple):
    """Rows of the present epoch that are scored and not yet learned: features (n, features), tails (n, 3), raw scores (n, 3), trusted (n,)."""

    rows: NDArray[np.float32]
    tails: NDArray[np.float64]
    raw: NDArray[np.float64]
    trusted: NDArray[np.bool_]


class Ensemble:
    """The members, their calibration and what they learn from. Not thread-safe; one object a partition."""

    def __init__(self, features: int, config: EnsembleConfig | None = None, *, feature_version: str = "") -> None:
        """Args: features: how many; feature_version: names their dictionary, so that a snapshot of another is not taken up."""
        self.features = features
        self.config = config or EnsembleConfig()
        self.version = self.config.version(feature_version)
        self.events = 0
        self.fits = 0
        self.suspects = 0
        self.next_fit = self.config.first_fit
        self.reservoir = Reservoir(features, capacity=self.config.reservoir, memory=self.config.memory, seed=self.config.seed)
        self.sample: NDArray[np.float32] = self.reservoir.rows
        """The reservoir as it was at the last fit."""
        self.scaler = Scaler()
        self.forest = IsolationForest(trees=self.config.trees, samples=self.config.samples, seed=self.config.seed)
        self.factor = LocalOutlierFactor(neighbours=self.config.neighbours, references=self.config.references)
        self.half_spaces = HalfSpaceTrees(
            features, trees=self.config.hst_trees, height=self.config.hst_height, window=self.config.hst_window, seed=self.config.seed
        )
        self.calibrators = tuple(TailCalibrator(self.config.reservoir) for _ in MEMBERS)
        self.pending: list[Pending] = []
        self.metrics = Metrics()
        self._kept_at = 0
        self._kept_fits = 0

    def score_then_learn(self, X: NDArray[np.float32], trusted: Sequence[bool] | None = None) -> Scored:
        """Scores the rows of `X` (n, features) by what was learned up to the last epoch boundary; learns at boundaries they reach.

        Args:
            trusted: whether a row may be learned as ordinary; None: all.
        """
        rows = np.ascontiguousarray(X, dtype=np.float32)
        trust = np.ones(len(rows), dtype=bool) if trusted is None else np.asarray(trusted, dtype=bool)
        members = np.full((len(rows), len(MEMBERS)), np.nan)
        anomaly = np.zeros(len(rows))
        fits = np.zeros(len(rows), dtype=np.int64)
        causes: dict[int, list[tuple[int, float]]] = {}
        start = 0
        while start < len(rows):
            end = min(len(rows), start + self.config.epoch - self.events % self.config.epoch)
            part = rows[start:end]
            raw, tails = self._score(part)
            if self.fits:
                members[start:end] = told(tails)
                anomaly[start:end] = self._combine(members[start:end])
                fits[start:end] = self.fits
                self._explain(part, anomaly[start:end], start, causes)
            self.pending.append(Pending(part, tails, raw, trust[start:end]))
            self.events += len(part)
            if self.events % self.config.epoch == 0:
                self._learn()
            start = end
        return Scored(members, anomaly, fits, causes)

    def _score(self, rows: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Raw scores and tail probabilities of rows, each (n, 3); ones before the first fit."""
        if not self.fits:
            ones = np.ones((len(rows), len(MEMBERS)))
            return ones, ones
        raw = self._raw(rows)
        tails = np.stack([calibrator.tail(raw[:, i]) for i, calibrator in enumerate(self.calibrators)], axis=1)
        return raw, tails

    def _raw(self, rows: NDArray[np.float32]) -> NDArray[np.float64]:
        scaled = self.scaler.transform(rows)
        return np.stack((self.forest.score(scaled), self.factor.score(scaled), self.half_spaces.score(scaled)), axis=1)

    def _combine(self, members: NDArray[np.float64]) -> NDArray[np.float64]:
        """Weighted mean of the members' scores (n, 3): (n,). Column by column, because a matrix product's last bit depends on n."""
        total = np.zeros(len(members))
        for i, weight in enumerate(self.config.weights):
            total += weight * members[:, i]
        return total

    def _explain(
        self, rows: NDArray[np.float32], anomaly: NDArray[np.float64], offset: int, causes: dict[int, list[tuple[int, float]]]
    ) -> None:
        """By how much each of the farthest features raises an anomaly: what is left of it when that feature is ordinary (its median)."""
        found = np.flatnonzero(anomaly >= self.config.explain_from)
        if not len(found):
            return
        far = np.argsort(-np.abs(self.scaler.transform(rows[found])), axis=1, kind="stable")[:, :EXPLAINED]
        tried = np.repeat(rows[found], far.shape[1], axis=0)
        tried[np.arange(len(tried)), far.reshape(-1)] = self.scaler.centre[far.reshape(-1)]
        _, tails = self._score(tried)
        left = self._combine(told(tails)).reshape(far.shape)
        for position, row in enumerate(found):
            drops = [(float(anomaly[row]) - float(left[position, i]), int(far[position, i])) for i in range(far.shape[1])]
            gains = sorted(((drop, feature) for drop, feature in drops if drop > 0.0), key=lambda one: (-one[0], one[1]))
            total = sum(drop for drop, _ in gains)
            causes[offset + int(row)] = [(feature, drop / total) for drop, feature in gains]

    def _learn(self) -> None:
        """Learns the epoch that has just ended."""
        epoch = Pending(*(np.concatenate(column) for column in zip(*self.pending, strict=True)))
        self.pending = []
        suspect = ~epoch.trusted | (np.median(epoch.tails, axis=1) < self.config.suspect_tail)
        number = self.suspects + np.cumsum(suspect)
        kept = ~suspect | (number % self.config.learn_suspects_every == 0)
        self.suspects += int(suspect.sum())
        self.reservoir.offer(epoch.rows[kept])
        if self.fits and kept.any():
            self.half_spaces.learn(self.scaler.transform(epoch.rows[kept]))
            for i, calibrator in enumerate(self.calibrators):
                calibrator.extend(epoch.raw[kept, i])
        if self.events >= self.next_fit and len(self.reservoir.rows) >= self.config.epoch:
            self.next_fit = self.events + min(self.events * (self.config.fit_growth - 1), self.config.fit_every)
            self.sample = self.reservoir.rows
            self.fit()
            self.fits += 1
            scaled = self.scaler.transform(self.sample)
            self.half_spaces.renew(scaled)
            held_out = self._raw(self.sample[1::2])
            for i, calibrator in enumerate(self.calibrators):
                calibrator.renew(held_out[:, i])

    def take_pending(self, parts: Sequence[tuple[NDArray[Any], ...]]) -> None:
        """Takes up the rows of an epoch that a snapshot cut: columns of `Pending`."""
        self.pending = [Pending(*columns) for columns in parts]

    def restore(self, snapshot: bytes | None, items: Iterable[tuple[str, Any]]) -> None:
        """Takes up a snapshot; the keyed state `items` holds nothing the ensemble needs. Called on a fresh object.

        None and a snapshot of other settings, libraries or features begin anew: models of another version cannot go on.
        """
        if snapshot is not None:
            checkpoint.load(self, snapshot)
            self._kept_at, self._kept_fits = self.events, self.fits

    def snapshot(self, leaving: bool = False) -> bytes | None:
        """The whole state, at most 1 MB; None while fewer than `keep_every` events and no fit came since the last one.

        `leaving`: None only when nothing came since.
        """
        new = self.events - self._kept_at
        if new == 0 or (new < self.config.keep_every and self.fits == self._kept_fits and not leaving):
            return None
        self._kept_at, self._kept_fits = self.events, self.fits
        return checkpoint.dump(self)

    def fit(self) -> None:
        """Fits scaler, forest and factor from `sample`; the same sample gives the same."""
        self.scaler.fit(self.sample)
        scaled = self.scaler.transform(self.sample)
        self.forest.fit(scaled)
        self.factor.fit(scaled[::2])
