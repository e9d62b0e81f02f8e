"""How good the detectors are, by labels that they never see.

`evaluate_anomaly` scores rows before learning them (prequential evaluation: Gama, Sebastião and Rodrigues 2013). `evaluate_decisions`
counts precision over events and recall over entities: a user with events of a label is one entity, found when any of them is flagged.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

from models.ensemble import MEMBERS, Ensemble, EnsembleConfig
from schemas.records import Outcome

HONEST: Final = "honest"
CHUNK: Final = 4096
"""Rows scored at a time; has no influence on the scores."""


class Ranking(msgspec.Struct, frozen=True):
    """How well scores rank anomalies; None where the scored rows hold one class only."""

    roc_auc: float | None
    average_precision: float | None


class AnomalyReport(msgspec.Struct, frozen=True):
    """What `usher evaluate anomaly` prints.

    Attributes:
        rows, scored_rows, anomalies: rows read; those after the first fit, which the rankings are over; anomalies among these.
        ensemble, members: rankings.
        events_per_s: rows by CPU seconds, as the caller measured; None where it did not.
    """

    rows: int
    scored_rows: int
    anomalies: int
    ensemble: Ranking
    members: dict[str, Ranking]
    events_per_s: float | None = None


def evaluate_anomaly(X: NDArray[np.floating], y: NDArray[np.integer], config: EnsembleConfig | None = None) -> AnomalyReport:
    """Scores the rows of `X` (n, features) in order, each before it is learned, and compares with `y` (n,): 1 is an anomaly.

    Rows before the first fit, for which every member abstains, are left out for all alike.

    Raises:
        ValueError: `X` is not two-dimensional, or `y` has another length.
    """
    if X.ndim != 2 or y.shape != (len(X),):
        raise ValueError(f"X must be (n, features) and y (n,), not {X.shape} and {y.shape}")
    ensemble = Ensemble(X.shape[1], config)
    parts = [ensemble.score_then_learn(X[start : start + CHUNK].astype(np.float32)) for start in range(0, len(X), CHUNK)]
    if not parts:
        return AnomalyReport(0, 0, 0, Ranking(None, None), dict.fromkeys(MEMBERS, Ranking(None, None)))
    scored = np.concatenate([part.fits for part in parts]) > 0
    anomaly = np.concatenate([part.anomaly for part in parts])[scored]
    members = np.concatenate([part.members for part in parts])[scored]
    truth = (y != 0)[scored]
    return AnomalyReport(
        rows=len(X),
        scored_rows=int(scored.sum()),
        anomalies=int(truth.sum()),
        ensemble=rank(truth, anomaly),
        members={name: rank(truth, members[:, i]) for i, name in enumerate(MEMBERS)},
    )


def rank(truth: NDArray[np.bool_], scores: NDArray[np.floating]) -> Ranking:
    """ROC-AUC and average precision of `scores` (n,) for `truth` (n,)."""
    if not truth.any() or truth.all():
        return Ranking(None, None)
    return Ranking(float(roc_auc_score(truth, scores)), float(average_precision_score(truth, scores)))


class Judged(NamedTuple):
    """One decided event with its label: `order` is its place in event-time order, `risk` in [0, 1]."""

    event_id: str
    user: str
    label: str
    outcome: Outcome
    risk: float
    order: int


class Overall(msgspec.Struct, frozen=True):
    """Precision over flagged events, recall over entities, their harmonic mean, and average precision over events; None: undefined."""

    precision: float | None
    recall: float | None
    f1: float | None
    pr_auc: float | None


class LabelReport(msgspec.Struct, frozen=True):
    """One label: events, entities, share of events and of entities flagged, and the median number of the entity's own events of
    that label before the first flagged one (None where none was found)."""

    events: int
    entities: int
    event_recall: float
    recall: float
    median_delay_events: float | None


class DecisionReport(msgspec.Struct, frozen=True):
    """What `usher evaluate decisions` prints.

    `honest_users_blocked` counts users with BLOCK on an honest event; `honest_users` those with any.
    """

    overall: Overall
    by_label: dict[str, LabelReport]
    honest_users_blocked: int
    honest_users: int
    events: int


class _Entity:
    """A user's events of one label, in order: how many, how many flagged, and how many before the first flagged one."""

    __slots__ = ("delay", "events", "flagged")

    def __init__(self) -> None:
        self.events = 0
        self.flagged = 0
        self.delay: int | None = None

    def note(self, flagged: bool) -> None:
        if flagged:
            self.flagged += 1
            if self.delay is None:
                self.delay = self.events
        self.events += 1


def evaluate_decisions(judged: Iterable[Judged]) -> DecisionReport:
    """Compares decisions with labels. Flagged is every outcome but ALLOW; the label `honest` is the only innocent one."""
    ordered = sorted(judged, key=lambda one: one.order)
    entities: dict[str, dict[str, _Entity]] = {}
    honest: set[str] = set()
    blocked: set[str] = set()
    flagged_events = true_flags = 0
    for one in ordered:
        flagged = one.outcome != "ALLOW"
        flagged_events += flagged
        if one.label == HONEST:
            honest.add(one.user)
            if one.outcome == "BLOCK":
                blocked.add(one.user)
            continue
        true_flags += flagged
        entities.setdefault(one.label, {}).setdefault(one.user, _Entity()).note(flagged)
    by_label = {label: _label_report(list(users.values())) for label, users in sorted(entities.items())}
    total = sum(report.entities for report in by_label.values())
    found = sum(entity.flagged > 0 for users in entities.values() for entity in users.values())
    precision = true_flags / flagged_events if flagged_events else None
    recall = found / total if total else None
    f1 = None
    if precision is not None and recall is not None:
        f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    truth = np.array([one.label != HONEST for one in ordered], dtype=bool)
    risks = np.array([one.risk for one in ordered], dtype=np.float64)
    overall = Overall(precision, recall, f1, rank(truth, risks).average_precision)
    return DecisionReport(overall, by_label, len(blocked), len(honest), len(ordered))


def _label_report(entities: list[_Entity]) -> LabelReport:
    events = sum(entity.events for entity in entities)
    delays = [entity.delay for entity in entities if entity.delay is not None]
    return LabelReport(
        events=events,
        entities=len(entities),
        event_recall=sum(entity.flagged for entity in entities) / events,
        recall=len(delays) / len(entities),
        median_delay_events=float(np.median(delays)) if delays else None,
    )
