"""What each member got right and wrong, by the labels people gave."""

from __future__ import annotations

from typing import Final

import msgspec

FLAGGED_FROM: Final = 0.5
"""Score from which a member counts as having flagged an event."""

OPEN_CAP: Final = 4_096
"""Flagged events whose label is still awaited; of twice as many the older half is given up."""

JUDGES: Final = ("isolation_forest", "local_outlier_factor", "half_space_trees", "rules", "ensemble")
"""Whose calls are counted; `ensemble` is the final risk of scoring."""

INNOCENT: Final = frozenset({"false_positive", "honest"})
"""Labels that say the event was in order; every other label says it was not."""


class MemberMetrics(msgspec.Struct, array_like=True):
    """Counts of one member.

    Attributes:
        predictions: events it scored.
        flagged: of these, scored at least `FLAGGED_FROM`.
        true_positives, false_positives: flagged events that people judged.
        false_negatives: events that it let pass, another flagged, and people found guilty.
    """

    predictions: int = 0
    flagged: int = 0
    true_positives: int = 0
    false_positives: int = 0
    false_negatives: int = 0

    @property
    def precision(self) -> float | None:
        """In [0, 1]; None without judged flags."""
        judged = self.true_positives + self.false_positives
        return self.true_positives / judged if judged else None

    @property
    def recall(self) -> float | None:
        """Among the guilty that any member flagged, in [0, 1]: what none flagged nobody labels. None without any."""
        guilty = self.true_positives + self.false_negatives
        return self.true_positives / guilty if guilty else None

    @property
    def f1(self) -> float | None:
        """Harmonic mean of precision and recall; None where either is."""
        precision, recall = self.precision, self.recall
        if precision is None or recall is None:
            return None
        return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _members() -> dict[str, MemberMetrics]:
    return {name: MemberMetrics() for name in JUDGES}


class Metrics(msgspec.Struct, array_like=True):
    """Metrics of all members, and the flagged events that await a label.

    Attributes:
        by_member: by the names of `JUDGES`.
        open: which members flagged (bit i: `JUDGES[i]`), by event key, oldest first.
        unmatched: labels for events that nobody flagged, that were given up, or that were judged before.
    """

    by_member: dict[str, MemberMetrics] = msgspec.field(default_factory=_members)
    open: dict[str, int] = msgspec.field(default_factory=dict)
    unmatched: int = 0

    def note(self, event: str, scores: tuple[float | None, ...]) -> None:
        """Counts the scores of one event, in the order of `JUDGES`; None where a member abstained."""
        mask = 0
        for i, score in enumerate(scores):
            if score is None:
                continue
            member = self.by_member[JUDGES[i]]
            member.predictions += 1
            if score >= FLAGGED_FROM:
                member.flagged += 1
                mask |= 1 << i
        if mask:
            self.open[event] = mask
            if len(self.open) >= 2 * OPEN_CAP:  # in bulk: taking the first key of a dict again and again is slow
                self.open = dict(list(self.open.items())[-OPEN_CAP:])

    def judge(self, event: str, label: str) -> bool:
        """Counts a person's label for an event, once; False where the event is not awaited any more."""
        mask = self.open.pop(event, None)
        if mask is None:
            self.unmatched += 1
            return False
        guilty = label.lower() not in INNOCENT
        for i, name in enumerate(JUDGES):
            member = self.by_member[name]
            if not mask >> i & 1:
                member.false_negatives += guilty
            elif guilty:
                member.true_positives += 1
            else:
                member.false_positives += 1
        return True
