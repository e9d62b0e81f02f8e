"""What a stream holds, counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from simulator.run import LabelledEvent


@dataclass(frozen=True, slots=True)
class LabelCount:
    """How much of a stream has this label: events, and users with at least one such event."""

    label: str
    events: int
    users: int


@dataclass(frozen=True, slots=True)
class Count:
    """How many events have this value."""

    name: str
    events: int


@dataclass(frozen=True, slots=True)
class Summary:
    """Counts over a stream, each sorted from many to few. Countries are ISO 3166-1 (subdivisions added up)."""

    events: int
    users: int
    labels: tuple[LabelCount, ...]
    types: tuple[Count, ...]
    countries: tuple[Count, ...]

    @property
    def misbehaviour_share(self) -> float:
        """Share of events whose label is neither honest nor a trace of the way (malformed, duplicate); 0 for no events."""
        bad = sum(one.events for one in self.labels if one.label not in ("honest", "malformed", "duplicate"))
        return bad / self.events if self.events else 0.0

    def table(self) -> str:
        """The labels as a table of plain text."""
        lines = [f"{'label':<20} {'events':>9} {'share':>8} {'users':>7}"]
        lines += [f"{one.label:<20} {one.events:>9} {one.events / self.events:>8.3%} {one.users:>7}" for one in self.labels]
        return "\n".join(lines)


def describe(events: Iterable[LabelledEvent]) -> Summary:
    """Counts a stream in one pass; memory grows with the users."""
    labels: Counter[str] = Counter()
    types: Counter[str] = Counter()
    countries: Counter[str] = Counter()
    users: dict[str, set[str]] = {}
    everybody: set[str] = set()
    for one in events:
        labels[one.label] += 1
        types[one.event.event_type.upper()] += 1
        countries[one.event.region[:2]] += 1
        users.setdefault(one.label, set()).add(one.event.user_id)
        everybody.add(one.event.user_id)
    return Summary(
        events=labels.total(),
        users=len(everybody),
        labels=tuple(LabelCount(name, number, len(users[name])) for name, number in labels.most_common()),
        types=tuple(Count(name, number) for name, number in types.most_common()),
        countries=tuple(Count(name, number) for name, number in countries.most_common()),
    )
