"""Which laws apply to an event and which of their checks: a pure function of place, day and purpose, remembered.

Laws and checks change only on certain days. Between two such days the answer is the same, so that the plan of a place,
purpose and interval is made once. Laws take effect at 00:00 UTC of their day.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import Final, NamedTuple

from rules.jurisdictions import codes_of, expand
from rules.packs import (
    AnyCheck,
    Disclosure,
    Localisation,
    Minimisation,
    Minor,
    OptIn,
    OptOut,
    Pack,
    Packs,
    Signal,
    Transfer,
    day_ms,
    day_of,
)
from rules.purposes import load_purposes

MAX_PLANS: Final = 4096
"""Places × purposes × intervals of real traffic are a few hundred; the bound is for codes that attackers make up."""


class Bound(NamedTuple):
    """A check of one law, ready for an event.

    Attributes:
        law: the law's code.
        check: the check.
        home: country codes in which the law holds.
        age_limit: first age a `Minor` check is no more for, None where the law names no age.
        adequate: countries that a `Transfer` check trusts.
    """

    law: str
    check: AnyCheck
    home: frozenset[str]
    age_limit: int | None
    adequate: frozenset[str]


class Plan(NamedTuple):
    """What to do for all events of a place, purpose and interval.

    Attributes:
        laws: codes of the laws that apply, in alphabetical order.
        purpose: canonical purpose.
        choices: `OptIn`, `OptOut` and `Signal` checks for the purpose.
        minors: `Minor` checks for the purpose.
        transfers: `Transfer` and `Localisation` checks for the purpose.
        disclosures: `Disclosure` checks; each knows its purposes itself.
        limits: `Minimisation` checks for the purpose.
        necessary: whether the purpose rests on contract, security or a legal duty, so that consent plays no part.
        asks_consent: whether any law asks for consent to the purpose.
        place_unknown: whether a code of the event is not a known one.
        uncovered: whether no law on file applies, although something but a necessary purpose is pursued.
        state_unknown: whether the event is from the United States without a state, and some state's law has a check for the purpose.
    """

    laws: tuple[str, ...]
    purpose: str
    choices: tuple[Bound, ...]
    minors: tuple[Bound, ...]
    transfers: tuple[Bound, ...]
    disclosures: tuple[Bound, ...]
    limits: tuple[Bound, ...]
    necessary: bool
    asks_consent: bool
    place_unknown: bool
    uncovered: bool
    state_unknown: bool


class Applicability:
    """Answers which laws and checks apply. Its memory is a cache only: answers depend on arguments and packs alone."""

    def __init__(self, packs: Packs) -> None:
        days = {pack.in_force_since for pack in packs.laws}
        for pack in packs.laws:
            days.update(day for check in pack.check for day in (check.since, check.until) if day)
            days.update(day for day in (pack.in_force_until, pack.gpc_since) if day)
        self._packs = packs
        self._turns_ms = sorted(day_ms(day) for day in days)
        self._plans: dict[tuple[str, str | None, tuple[str, ...], int, str], Plan] = {}

    def plan(self, region: str, subdivision: str | None, others: tuple[str, ...], at_ms: int, purpose: str) -> Plan:
        """The plan for an event.

        Args:
            region: ISO 3166-1 alpha-2, `ZZ` where unknown.
            subdivision: ISO 3166-2, or None.
            others: codes of account, residence or address, where known.
            at_ms: event time, Unix ms.
            purpose: canonical purpose.
        """
        interval = bisect_right(self._turns_ms, at_ms)
        key = (region, subdivision, others, interval, purpose)
        plan = self._plans.get(key)
        if plan is None:
            if len(self._plans) >= MAX_PLANS:
                self._plans.clear()
            plan = self._plans[key] = self._make(region, subdivision, others, at_ms, purpose)
        return plan

    def _make(self, region: str, subdivision: str | None, others: tuple[str, ...], at_ms: int, purpose: str) -> Plan:
        codes, place_unknown = codes_of(region, subdivision, others)
        day = day_of(at_ms)
        in_force = [pack for pack in self._packs.laws if pack.in_force(day)]
        laws = [pack for pack in in_force if not codes.isdisjoint(pack.jurisdiction_codes)]
        bound = [bind(pack, check, codes) for pack in laws for check in pack.check if holds(check, pack, at_ms, purpose)]
        states = any(code.startswith("US-") for code in codes)
        elsewhere = any(
            holds(check, pack, at_ms, purpose)
            for pack in in_force
            if any(code.startswith("US-") for code in pack.jurisdiction_codes)
            for check in pack.check
        )
        necessary = load_purposes().entries[purpose].necessary

        def of(*kinds: type[AnyCheck]) -> tuple[Bound, ...]:
            return tuple(one for one in bound if isinstance(one.check, kinds))

        return Plan(
            laws=tuple(pack.code for pack in laws),
            purpose=purpose,
            choices=of(OptIn, OptOut, Signal),
            minors=of(Minor),
            transfers=of(Transfer, Localisation),
            disclosures=of(Disclosure),
            limits=of(Minimisation),
            necessary=necessary,
            asks_consent=bool(of(OptIn)),
            place_unknown=place_unknown,
            uncovered=not laws and not necessary and bool(codes),
            state_unknown="US" in codes and not states and not necessary and elsewhere,
        )


def holds(check: AnyCheck, pack: Pack, at_ms: int, purpose: str) -> bool:
    """Whether a check is in force at an instant (Unix ms) and is for the purpose."""
    since = check.since
    if isinstance(check, Signal) and since is None:
        since = pack.gpc_since
    if since is not None and at_ms < day_ms(since):
        return False
    if check.until is not None and at_ms >= day_ms(check.until):
        return False
    return not check.purposes or purpose in check.purposes or isinstance(check, Disclosure)


def bind(pack: Pack, check: AnyCheck, codes: frozenset[str]) -> Bound:
    """A check made ready for the event's places; of several ages the highest protects best."""
    limit: int | None = None
    if isinstance(check, Minor):
        limit = check.below_age
        if limit is None:
            ages = [pack.age_by_country[code] for code in codes if code in pack.age_by_country]
            limit = max(ages, default=pack.parental_consent_below_age)
    adequate = expand(check.adequate) if isinstance(check, Transfer) else frozenset[str]()
    home = frozenset(code[:2] for code in pack.jurisdiction_codes)
    return Bound(pack.code, check, home, limit, adequate)
