"""Event-time counts over 1 min, 5 min, 1 h, 24 h, 7 d and 30 d, kept inside a value record.

Semantics, the same online and on replay:

- The *clock* of a record is the greatest event time counted in it. Every window ends with the clock's bucket.
- Buckets are aligned to the Unix epoch (UTC). A window of N buckets of b seconds holds the events with
  `floor(t / b) > floor(clock / b) - N`: it spans more than (N - 1) * b and at most N * b seconds before the clock.
- The current event is in.
- A late event (t < clock) counts in every window that still holds its bucket, and in none of the others. The result is
  therefore that of all events so far, in whatever order they came.
- Unit: events, or whole seconds for `WATCHED_S`. Nothing is null: a window without events is 0.
- Memory: at most 77 rows of `len(KINDS)` small integers; only buckets with events have a row.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec

KINDS: Final = ("events", "acts", "login_failures", "errors", "exports", "downloads", "purchases", "logins", "plays", "watched_s")
"""What is counted. `acts` leaves out what clients do by themselves (heartbeats, token refreshes)."""

EVENTS, ACTS, LOGIN_FAILURES, ERRORS, EXPORTS, DOWNLOADS, PURCHASES, LOGINS, PLAYS, WATCHED_S = range(len(KINDS))


class Window(NamedTuple):
    """A window: `buckets` buckets of `bucket_s` seconds, kept in level `level`."""

    name: str
    level: int
    bucket_s: int
    buckets: int

    @property
    def span_s(self) -> int:
        """Longest span, in seconds."""
        return self.bucket_s * self.buckets

    def holds(self, at_s: int, clock_s: int) -> bool:
        """Whether an event at `at_s` (Unix s) is in the window that ends at `clock_s`."""
        return at_s // self.bucket_s > clock_s // self.bucket_s - self.buckets


WINDOWS: Final = (
    Window("1m", 0, 10, 6),
    Window("5m", 1, 60, 5),
    Window("1h", 2, 300, 12),
    Window("24h", 3, 3600, 24),
    Window("7d", 4, 86_400, 7),
    Window("30d", 4, 86_400, 30),
)
W1M, W5M, W1H, W24H, W7D, W30D = range(len(WINDOWS))

_LEVELS: Final = tuple(
    (level, bucket_s, max(w.buckets for w in WINDOWS if w.level == level), tuple(i for i, w in enumerate(WINDOWS) if w.level == level))
    for level, bucket_s in sorted({(w.level, w.bucket_s) for w in WINDOWS})
)
"""Level, bucket size (s), buckets kept, windows read from it."""


def _no_totals() -> list[list[int]]:
    return [[0] * len(KINDS) for _ in WINDOWS]


def _no_levels() -> list[list[list[int]]]:
    return [[] for _ in _LEVELS]


class WindowCounts(msgspec.Struct, array_like=True):
    """Counts of one key.

    Attributes:
        clock_s: greatest event time counted (Unix s); -1 before the first event.
        levels: by level, rows `[bucket number, count of each kind…]` in bucket order; only buckets with events.
        totals: by window, the count of each kind at the clock.
    """

    clock_s: int = -1
    levels: list[list[list[int]]] = msgspec.field(default_factory=_no_levels)
    totals: list[list[int]] = msgspec.field(default_factory=_no_totals)

    def add(self, at_s: int, kinds: tuple[int, ...], watched_s: int = 0) -> None:
        """Counts one event at `at_s` (Unix s) under `kinds` (indices of `KINDS`) and `watched_s` seconds of viewing."""
        before_s = self.clock_s
        newest = at_s > before_s
        if newest:
            self.clock_s = at_s
        clock_s = self.clock_s
        for level, bucket_s, kept, windows in _LEVELS:
            rows = self.levels[level]
            bucket = at_s // bucket_s
            if rows and rows[-1][0] == bucket:
                row = rows[-1]
            elif newest:
                row = [bucket] + [0] * len(KINDS)
                rows.append(row)
                self._advance(rows, before_s // bucket_s, bucket, kept, windows)
            elif bucket > clock_s // bucket_s - kept:
                row = _row_of(rows, bucket)
            else:
                continue
            for kind in kinds:
                row[kind + 1] += 1
            if watched_s:
                row[WATCHED_S + 1] += watched_s
            for index in windows:
                if bucket > clock_s // bucket_s - WINDOWS[index].buckets:
                    totals = self.totals[index]
                    for kind in kinds:
                        totals[kind] += 1
                    if watched_s:
                        totals[WATCHED_S] += watched_s

    def _advance(self, rows: list[list[int]], before: int, newest: int, kept: int, windows: tuple[int, ...]) -> None:
        """Takes what leaves each window, as the clock's bucket goes from `before` to `newest`, off its totals, and drops rows no window holds."""
        for index in windows:
            left, leaving = before - WINDOWS[index].buckets, newest - WINDOWS[index].buckets
            for row in rows:
                if row[0] > leaving:
                    break
                if row[0] > left:
                    self.totals[index] = [total - gone for total, gone in zip(self.totals[index], row[1:], strict=True)]
        while rows[0][0] <= newest - kept:
            del rows[0]


def _row_of(rows: list[list[int]], bucket: int) -> list[int]:
    """The row of a late event's bucket, made where the bucket had no event yet."""
    for position in range(len(rows) - 1, -1, -1):
        if rows[position][0] == bucket:
            return rows[position]
        if rows[position][0] < bucket:
            break
    else:
        position = -1
    row = [bucket] + [0] * len(KINDS)
    rows.insert(position + 1, row)
    return row
