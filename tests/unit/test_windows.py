from __future__ import annotations

from tables.windows import EVENTS, LOGIN_FAILURES, W1H, W1M, W5M, W7D, W24H, W30D, WINDOWS, WindowCounts

T = 1_760_000_000 // 86_400 * 86_400


def counted(*times: int) -> WindowCounts:
    counts = WindowCounts()
    for at_s in times:
        counts.add(at_s, (EVENTS,))
    return counts


def test_an_empty_record_counts_nothing() -> None:
    assert all(count == 0 for totals in WindowCounts().totals for count in totals)


def test_the_current_event_is_in() -> None:
    assert [totals[EVENTS] for totals in counted(T).totals] == [1] * len(WINDOWS)


def test_an_event_leaves_a_window_with_its_bucket() -> None:
    assert counted(T + 9, T + 59).totals[W1M][EVENTS] == 2
    assert counted(T + 9, T + 60).totals[W1M][EVENTS] == 1
    assert counted(T + 9, T + 299).totals[W5M][EVENTS] == 2
    assert counted(T + 9, T + 300).totals[W5M][EVENTS] == 1


def test_long_windows() -> None:
    counts = counted(T, T + 3_600, T + 86_399, T + 86_400, T + 7 * 86_400)
    assert [counts.totals[w][EVENTS] for w in (W1H, W24H, W7D, W30D)] == [1, 1, 2, 5]


def test_a_late_event_counts_where_its_bucket_is_kept() -> None:
    counts = counted(T + 4_000)
    counts.add(T + 3_900, (EVENTS, LOGIN_FAILURES))
    assert [counts.totals[w][LOGIN_FAILURES] for w in (W1M, W5M, W1H, W24H)] == [0, 1, 1, 1]
    counts.add(T - 40 * 86_400, (EVENTS,))
    assert counts.totals[W30D][EVENTS] == 2
    assert counts.clock_s == T + 4_000


def test_late_events_before_between_and_in_kept_buckets() -> None:
    counts = counted(T + 1_000, T + 3_000)
    for late in (T + 2_000, T + 2_001, T + 500, T + 1_001):
        counts.add(late, (EVENTS,))
    assert [row[:2] for row in counts.levels[2]] == [[(T + at) // 300, n] for at, n in ((500, 1), (1_000, 2), (2_000, 2), (3_000, 1))]
    assert counts.totals[W1H][EVENTS] == 6
