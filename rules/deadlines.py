"""When something is due: hours run on, days and months end with a day, business days skip weekends and holidays.

The day on which the clock starts is not counted (Reg (EEC, Euratom) 1182/71 Art 3(1); LGPD: Resolution CD/ANPD 15/2024
Art 6). Hours are counted from the instant and run through weekends. Public holidays are the caller's to give: none are assumed.
"""

from __future__ import annotations

from calendar import monthrange
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Final, Literal

import msgspec

Unit = Literal["hours", "days", "business-days", "calendar-months"]
HOUR_MS: Final = 3_600_000
SATURDAY_SUNDAY: Final = frozenset({5, 6})
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Term(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A period as the law words it.

    Fields:
        amount: how many, at least 1.
        unit: hours, days, business-days or calendar-months.
        next_working_day: whether a last day on a weekend or holiday moves to the next working day (Reg 1182/71 Art 3(4)).
    """

    amount: int
    unit: Unit
    next_working_day: bool = False


class Calendar(msgspec.Struct, frozen=True):
    """Which days are not working days.

    Fields:
        weekend: weekdays, Monday is 0; Saudi Arabia's are Friday and Saturday, {4, 5}.
        holidays: public holidays.
    """

    weekend: frozenset[int] = SATURDAY_SUNDAY
    holidays: frozenset[date] = frozenset()

    def works_on(self, day: date) -> bool:
        """Whether `day` is a working day."""
        return day.weekday() not in self.weekend and day not in self.holidays


WEEKDAYS: Final = Calendar()


def add_months(day: date, months: int) -> date:
    """The same day number `months` later; the month's last day where it has no such day (31 January + 1 is 28 February)."""
    index = day.year * 12 + day.month - 1 + months
    year, month = divmod(index, 12)
    return date(year, month + 1, min(day.day, monthrange(year, month + 1)[1]))


def last_day(start: date, term: Term, calendar: Calendar = WEEKDAYS) -> date:
    """The last day of a period that begins on the day `start`.

    Args:
        start: local date on which the clock starts; it is not counted.
        term: a period of days, business days or calendar months.
        calendar: the days that are not worked.

    Raises:
        ValueError: a term in hours (they end at an instant, see `due_ms`), an amount below 1, or a weekend of seven days.
    """
    if term.amount < 1 or len(calendar.weekend) >= 7:
        raise ValueError(f"no period: {term} with weekend {sorted(calendar.weekend)}")
    match term.unit:
        case "hours":
            raise ValueError("a term in hours ends at an instant: use due_ms")
        case "days":
            day = start + timedelta(days=term.amount)
        case "calendar-months":
            day = add_months(start, term.amount)
        case "business-days":
            day, left = start, term.amount
            while left:
                day += timedelta(days=1)
                left -= calendar.works_on(day)
    while term.next_working_day and not calendar.works_on(day):
        day += timedelta(days=1)
    return day


def due_ms(start_ms: int, term: Term, zone: tzinfo = UTC, calendar: Calendar = WEEKDAYS) -> int:
    """The instant (Unix ms, exclusive) by which something is due that became known at `start_ms` (Unix ms).

    Hours end exactly that many hours later; all other terms end with their last day in `zone`, at the next midnight.

    Raises:
        ValueError: as `last_day`.
    """
    if term.unit == "hours":
        if term.amount < 1:
            raise ValueError(f"no period: {term}")
        return start_ms + term.amount * HOUR_MS
    local = (EPOCH + timedelta(milliseconds=start_ms)).astimezone(zone)
    end = last_day(local.date(), term, calendar)
    midnight = datetime.combine(end + timedelta(days=1), time(), tzinfo=zone)
    return (midnight - EPOCH) // timedelta(milliseconds=1)
