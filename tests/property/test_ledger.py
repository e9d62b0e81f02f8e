"""The ledger: records win by their own time, whatever the order and however often they arrive."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from schemas.records import Origin
from tables.ledger import (
    ALL_PURPOSES,
    MAX_RECENT_EVENTS,
    MAX_RECORDS_A_PURPOSE,
    RECENT_AFTER_CUT,
    RECENT_HORIZON_S,
    ConsentEntry,
    Ledger,
    consent_at,
    count_event,
    forget_old_events,
    learn_birth_year,
    learn_consent,
    state_at,
)

PURPOSES = ("marketing", "sale", ALL_PURPOSES)
times = st.integers(0, 40)
entries = st.builds(
    ConsentEntry,
    effective_at=times,
    refused=st.booleans(),
    digest=st.integers(0, 2**64 - 1),
    expires_at=st.one_of(st.just(-1), st.integers(1, 60)),
    guardian=st.sampled_from([-1, 0, 1]),
)
facts = st.lists(st.tuples(st.sampled_from(PURPOSES), entries, st.integers(1900, 2026)), max_size=40)


def ledger_of(records: list[tuple[str, ConsentEntry, int]]) -> Ledger:
    ledger = Ledger()
    for purpose, entry, born in records:
        learn_consent(ledger, purpose, entry)
        learn_birth_year(ledger, born, entry.effective_at)
    return ledger


@given(facts, st.randoms(use_true_random=False), st.integers(0, 20))
def test_shuffling_and_repeating_records_changes_nothing(
    records: list[tuple[str, ConsentEntry, int]], random: object, repeats: int
) -> None:
    expected = ledger_of(records)
    again = [*records, *records[:repeats]]
    random.shuffle(again)  # type: ignore[attr-defined]
    assert ledger_of(again) == expected


@given(facts)
def test_a_ledger_is_bounded_and_survives_serialisation(records: list[tuple[str, ConsentEntry, int]]) -> None:
    ledger = ledger_of(records)
    assert all(len(kept) <= MAX_RECORDS_A_PURPOSE for kept in ledger.history.values())
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(ledger), type=Ledger) == ledger


@given(facts, times)
def test_the_newest_record_in_effect_decides(records: list[tuple[str, ConsentEntry, int]], at: int) -> None:
    records = records[:MAX_RECORDS_A_PURPOSE]
    past = [entry for purpose, entry, _ in records if purpose in ("sale", ALL_PURPOSES) and entry.effective_at <= at]
    state = state_at(ledger_of(records), "sale", at)
    if not past:
        assert state == "UNKNOWN"
        return
    winner = max(past)
    if winner.refused:
        assert state == ("WITHDRAWN" if any(not entry.refused for entry in past) else "DENIED")
    else:
        assert state == ("EXPIRED" if 0 <= winner.expires_at <= at else "GRANTED")


@given(facts, times)
def test_a_consent_to_everything_is_never_a_separate_one(records: list[tuple[str, ConsentEntry, int]], at: int) -> None:
    for_everything = [record for record in records if record[0] == ALL_PURPOSES]
    assert consent_at(ledger_of(for_everything), "sale", at, separate=True).state in ("UNKNOWN", "DENIED")


moments = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 3 * RECENT_HORIZON_S)), max_size=60)


@given(moments, st.sets(st.integers(0, 60)))
def test_forgetting_at_any_moment_changes_no_answer(events: list[tuple[int, int]], cuts: set[int]) -> None:
    plain, cut = Ledger(), Ledger()
    for offset, (number, second) in enumerate(events):
        origin = Origin(partition=0, offset=offset)
        one = count_event(plain, f"e{number}", second * 1000, origin)
        other = count_event(cut, f"e{number}", second * 1000, origin)
        assert one == other
        if offset in cuts:
            forget_old_events(cut)


@given(st.lists(st.integers(0, 2 * RECENT_HORIZON_S), min_size=MAX_RECENT_EVENTS, max_size=MAX_RECENT_EVENTS + 200), st.integers(1, 97))
def test_the_memory_of_events_is_bounded(seconds: list[int], every: int) -> None:
    plain, cut = Ledger(), Ledger()
    for offset, second in enumerate(seconds):
        origin = Origin(partition=0, offset=offset)
        assert count_event(plain, f"e{offset}", second * 1000, origin)
        assert count_event(cut, f"e{offset}", second * 1000, origin)
        if offset % every == 0:
            forget_old_events(cut)
        assert len(plain.recent) <= MAX_RECENT_EVENTS
    forget_old_events(plain)
    forget_old_events(cut)
    assert plain == cut


def test_a_retry_counts_once_and_a_redelivery_too() -> None:
    ledger = Ledger()
    assert count_event(ledger, "a", 1_000, Origin(partition=0, offset=5))
    assert not count_event(ledger, "a", 1_000, Origin(partition=0, offset=5)), "redelivered"
    assert not count_event(ledger, "a", 1_000, Origin(partition=3, offset=0)), "sent again by the gateway"
    assert count_event(ledger, "b", 1_000 + RECENT_HORIZON_S * 1000 + 1000, Origin(partition=0, offset=6))
    assert count_event(ledger, "a", 1_000, Origin(partition=0, offset=7)), "beyond the horizon nobody knows"


def test_of_many_events_within_a_day_the_newest_are_remembered() -> None:
    ledger = Ledger()
    for number in range(MAX_RECENT_EVENTS + 1):
        assert count_event(ledger, f"e{number}", number * 1000, Origin(partition=0, offset=number))
    assert len(ledger.recent) == RECENT_AFTER_CUT
    assert not count_event(ledger, f"e{MAX_RECENT_EVENTS}", MAX_RECENT_EVENTS * 1000, Origin(partition=1, offset=0))
    assert count_event(ledger, "e0", 0, Origin(partition=1, offset=1)), "forgotten"


def test_a_refusal_beats_a_grant_of_the_same_instant() -> None:
    ledger = Ledger()
    learn_consent(ledger, "sale", ConsentEntry(5, False, 2**64 - 1))
    learn_consent(ledger, "sale", ConsentEntry(5, True, 0))
    assert state_at(ledger, "sale", 5) == "WITHDRAWN"
    assert state_at(ledger, "sale", 4) == "UNKNOWN"
