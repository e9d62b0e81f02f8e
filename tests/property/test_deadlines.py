"""Deadlines around month ends, leap days, weekends and changes of the clock; known answers of the laws."""

from __future__ import annotations

from calendar import monthrange
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rules.deadlines import Calendar, Term, add_months, due_ms, last_day
from rules.packs import load_packs

days = st.dates(date(1990, 1, 1), date(2100, 12, 31))
amounts = st.integers(1, 400)
ZONES = [UTC, ZoneInfo("America/Los_Angeles"), ZoneInfo("Asia/Kolkata"), ZoneInfo("Pacific/Apia"), ZoneInfo("Europe/Amsterdam")]


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() * 1000)


def term_of(code: str, field: str) -> Term:
    pack = load_packs().find(code)
    assert pack is not None
    term: Term | None = getattr(pack, field)
    assert term is not None
    return term


@pytest.mark.parametrize("code", ["GDPR", "UK_GDPR", "KVKK", "PDPL_SA", "PDPA_TH", "PIPA_KR"])
def test_72_hours_run_through_the_weekend(code: str) -> None:
    assert due_ms(ms("2026-03-06T10:00:00+00:00"), term_of(code, "breach_authority_term")) == ms("2026-03-09T10:00:00+00:00")


@pytest.mark.parametrize(
    ("code", "field", "start", "due"),
    [
        ("LGPD", "breach_authority_term", date(2026, 3, 6), date(2026, 3, 11)),
        ("PDPA_SG", "breach_authority_term", date(2026, 3, 10), date(2026, 3, 13)),
        ("CCPA", "breach_authority_term", date(2026, 3, 20), date(2026, 4, 4)),
        ("CPA_CO", "breach_authority_term", date(2026, 3, 6), date(2026, 4, 5)),
        ("TDPSA", "breach_authority_term", date(2026, 3, 6), date(2026, 4, 5)),
        ("CTDPA", "breach_authority_term", date(2026, 3, 6), date(2026, 5, 5)),
        ("GDPR", "access_term", date(2026, 1, 31), date(2026, 3, 2)),
        ("PIPA_KR", "access_term", date(2026, 3, 2), date(2026, 3, 12)),
        ("LGPD", "access_term", date(2026, 3, 2), date(2026, 3, 17)),
        ("PIPEDA", "access_term", date(2026, 3, 2), date(2026, 4, 1)),
        ("CCPA", "access_term", date(2026, 3, 2), date(2026, 4, 16)),
        ("ICDPA_IA", "access_term", date(2026, 3, 2), date(2026, 5, 31)),
    ],
)
def test_known_answers(code: str, field: str, start: date, due: date) -> None:
    assert last_day(start, term_of(code, field)) == due


def test_holidays_and_other_weekends() -> None:
    term = Term(amount=3, unit="business-days")
    assert last_day(date(2026, 3, 6), term, Calendar(holidays=frozenset({date(2026, 3, 9)}))) == date(2026, 3, 12)
    assert last_day(date(2026, 3, 4), term, Calendar(weekend=frozenset({4, 5}))) == date(2026, 3, 9)


@given(days, st.integers(0, 1200))
def test_months_keep_the_day_or_end_the_month(day: date, months: int) -> None:
    later = add_months(day, months)
    assert (later.year * 12 + later.month) - (day.year * 12 + day.month) == months
    assert later.day == min(day.day, monthrange(later.year, later.month)[1])


@pytest.mark.parametrize(
    ("start", "months", "end"), [((2024, 2, 29), 12, (2025, 2, 28)), ((2023, 12, 31), 2, (2024, 2, 29)), ((2026, 8, 31), 1, (2026, 9, 30))]
)
def test_leap_days_and_month_ends(start: tuple[int, int, int], months: int, end: tuple[int, int, int]) -> None:
    assert add_months(date(*start), months) == date(*end)


@given(days, amounts)
def test_business_days_count_working_days_only(day: date, amount: int) -> None:
    end = last_day(day, Term(amount=amount, unit="business-days"))
    assert end.weekday() < 5
    passed = [day + timedelta(days=n) for n in range(1, (end - day).days + 1)]
    assert sum(one.weekday() < 5 for one in passed) == amount


@given(days, amounts, st.sampled_from(["days", "calendar-months"]))
def test_the_next_working_day_is_at_most_two_days_later(day: date, amount: int, unit: str) -> None:
    plain = last_day(day, Term(amount=amount, unit=unit))  # type: ignore[arg-type]
    moved = last_day(day, Term(amount=amount, unit=unit, next_working_day=True))  # type: ignore[arg-type]
    assert moved.weekday() < 5
    assert 0 <= (moved - plain).days <= 2


@given(st.datetimes(datetime(1990, 1, 1), datetime(2100, 1, 1)), amounts, st.sampled_from(ZONES))
def test_days_end_at_local_midnight(naive: datetime, amount: int, zone: ZoneInfo) -> None:
    start = int(naive.replace(tzinfo=UTC).timestamp() * 1000)
    due = datetime.fromtimestamp(due_ms(start, Term(amount=amount, unit="days"), zone) / 1000, tz=zone)
    local = datetime.fromtimestamp(start / 1000, tz=zone)
    assert (due - timedelta(milliseconds=1)).date() >= local.date() + timedelta(days=amount)
    assert due.date() >= local.date() + timedelta(days=amount + 1) or due.hour > 0


@given(st.integers(0, 4 * 10**12), amounts)
def test_hours_are_absolute(start: int, amount: int) -> None:
    assert due_ms(start, Term(amount=amount, unit="hours"), ZONES[1]) - start == amount * 3_600_000


def test_a_day_of_23_hours() -> None:
    start = ms("2026-03-07T12:00:00-08:00")
    assert due_ms(start, Term(amount=1, unit="days"), ZoneInfo("America/Los_Angeles")) == ms("2026-03-09T00:00:00-07:00")


@pytest.mark.parametrize("term", [Term(amount=72, unit="hours"), Term(amount=0, unit="days")])
def test_terms_without_a_last_day(term: Term) -> None:
    with pytest.raises(ValueError):
        last_day(date(2026, 1, 1), term)


def test_periods_that_are_none() -> None:
    with pytest.raises(ValueError, match="no period"):
        due_ms(0, Term(amount=0, unit="hours"))
    with pytest.raises(ValueError, match="no period"):
        last_day(date(2026, 1, 1), Term(amount=1, unit="business-days"), Calendar(weekend=frozenset(range(7))))
