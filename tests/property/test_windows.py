"""Windows equal a recomputation from the log, in whatever order the events came."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from tables.sightings import Sighting, distinct, note
from tables.windows import ACTS, EVENTS, KINDS, LOGINS, WATCHED_S, WINDOWS, WindowCounts

SPANS = st.sampled_from((1, 9, 60, 299, 3_600, 86_400, 700_000, 2_592_000))
TIMES = st.builds(lambda span, part: 1_760_000_000 + int(span * part), SPANS, st.floats(-1.0, 1.0))
LOG = st.lists(
    st.tuples(TIMES, st.sampled_from(((EVENTS,), (EVENTS, ACTS), (EVENTS, ACTS, LOGINS))), st.integers(0, 200)), min_size=1, max_size=60
)


@given(LOG)
def test_totals_equal_a_recount(log: list[tuple[int, tuple[int, ...], int]]) -> None:
    counts = WindowCounts()
    for position, (at_s, kinds, watched_s) in enumerate(log):
        counts.add(at_s, kinds, watched_s)
        if position % 7 == 0:
            counts = msgspec.msgpack.decode(msgspec.msgpack.encode(counts), type=WindowCounts)
        so_far = log[: position + 1]
        clock_s = max(at for at, _, _ in so_far)
        assert counts.clock_s == clock_s
        for window, totals in zip(WINDOWS, counts.totals, strict=True):
            held = [one for one in so_far if one[0] // window.bucket_s > clock_s // window.bucket_s - window.buckets]
            expected = [0] * len(KINDS)
            for _, kinds_held, watched in held:
                for kind in kinds_held:
                    expected[kind] += 1
                expected[WATCHED_S] += watched
            assert totals == expected, window.name


@given(LOG, st.randoms())
def test_order_of_arrival_does_not_matter(log: list[tuple[int, tuple[int, ...], int]], rng: object) -> None:
    shuffled = list(log)
    rng.shuffle(shuffled)  # type: ignore[attr-defined]
    one, other = WindowCounts(), WindowCounts()
    for at_s, kinds, watched_s in log:
        one.add(at_s, kinds, watched_s)
    for at_s, kinds, watched_s in shuffled:
        other.add(at_s, kinds, watched_s)
    assert one.totals == other.totals


@given(st.lists(TIMES, min_size=1, max_size=300))
def test_rows_are_bounded_and_ordered(times: list[int]) -> None:
    counts = WindowCounts()
    for at_s in times:
        counts.add(at_s, (EVENTS,))
    for level, kept in zip(counts.levels, (6, 5, 12, 24, 30), strict=True):
        buckets = [row[0] for row in level]
        assert buckets == sorted(set(buckets))
        assert len(buckets) <= kept


@given(st.lists(st.tuples(TIMES, st.integers(0, 7), st.booleans()), min_size=1, max_size=80))
def test_distinct_counts_equal_a_recount_within_the_cap(log: list[tuple[int, int, bool]]) -> None:
    sightings: list[Sighting] = []
    for position, (at_s, item, good) in enumerate(log):
        note(sightings, item, at_s, good=good, cap=8)
        so_far = log[: position + 1]
        clock_s = max(at for at, _, _ in so_far)
        for window in WINDOWS:
            assert distinct(sightings, window, clock_s) == len({item for at, item, _ in so_far if window.holds(at, clock_s)})


@given(st.lists(st.tuples(TIMES, st.integers(0, 50)), min_size=1, max_size=80))
def test_distinct_counts_beyond_the_cap_are_lower_bounds(log: list[tuple[int, int]]) -> None:
    sightings: list[Sighting] = []
    for at_s, item in log:
        note(sightings, item, at_s, good=True, cap=4)
    clock_s = max(at for at, _ in log)
    assert len(sightings) <= 4
    for window in WINDOWS:
        assert distinct(sightings, window, clock_s) <= len({item for at, item in log if window.holds(at, clock_s)})
