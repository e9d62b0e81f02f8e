"""Holds an event against the laws that apply to it. Pure; one function a kind of check.

Consent is what the ledger says at event time. Where the ledger knows nothing, the gateway's own flag counts as the
consent it says it saw. A refusal on record is never outweighed by the flag.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

import msgspec

from rules.applicability import Bound, Plan
from rules.deadlines import add_months, due_ms
from rules.packs import Disclosure, Localisation, Minimisation, Minor, OptIn, OptOut, Signal, Transfer, day_of
from rules.signals import UNKNOWN_PLACE, Signals, age_from_birth_year
from schemas.records import SEVERITIES, Breach, ConsentState, Severity
from tables.ledger import Consent, Ledger, consent_at

UNRESOLVED: Final = "UNRESOLVED"
"""Stands in place of a law's code where it cannot be said which law applies."""

REFUSED: Final = frozenset({"DENIED", "WITHDRAWN"})
SALE_PURPOSES: Final = frozenset({"sale", "targeted-advertising"})
_CONSENT_RULES: Final[dict[ConsentState, tuple[str, str]]] = {
    "UNKNOWN": ("consent-missing", "there is no consent on record and the gateway saw none"),
    "DENIED": ("consent-denied", "the person has refused"),
    "WITHDRAWN": ("consent-withdrawn", "the person has withdrawn the consent"),
    "EXPIRED": ("consent-expired", "the consent has lapsed"),
}


class Circumstances(msgspec.Struct, frozen=True):
    """What the checks need to know of an event.

    Fields:
        at_ms: event time, Unix ms.
        has_consent: the gateway's flag for the event's purpose.
        has_title: whether the event names what was watched.
        signals: the event's own privacy signals.
        ledger: the user's consents.
    """

    at_ms: int
    has_consent: bool
    has_title: bool
    signals: Signals
    ledger: Ledger


class Judgement(NamedTuple):
    """The consent that counted for the purpose, and what is breached, by law in alphabetical order."""

    consent: ConsentState
    breaches: tuple[Breach, ...]


def worse(severity: Severity) -> Severity:
    """One grade worse, CRITICAL at most."""
    return SEVERITIES[min(SEVERITIES.index(severity) + 1, len(SEVERITIES) - 1)]


def consent_for(plan: Plan, given: Circumstances, purpose: str, *, separate: bool = False, valid_months: int | None = None) -> Consent:
    """The consent that counts for a purpose at event time; the gateway's flag speaks for the event's own purpose only."""
    found = consent_at(given.ledger, purpose, given.at_ms, separate=separate)
    if found.state == "UNKNOWN":
        return Consent("GRANTED", None, given.signals.guardian_consent) if given.has_consent and purpose == plan.purpose else found
    if found.state != "GRANTED" or valid_months is None or found.effective_at is None:
        return found
    lapsed = day_of(given.at_ms) >= add_months(day_of(found.effective_at), valid_months)
    return found._replace(state="EXPIRED") if lapsed else found


def judge(plan: Plan, given: Circumstances) -> Judgement:
    """Holds an event against its plan.

    Args:
        plan: the checks of the laws that apply (`rules.applicability`).
        given: the event's circumstances.

    Returns:
        The breaches and the consent that counted: NOT_REQUIRED for a necessary purpose, and where no law asks for consent and the
        person has said nothing.
    """
    breaches: list[Breach] = []
    for bound in plan.choices:
        check = bound.check
        if isinstance(check, OptIn):
            breaches.extend(_check_opt_in(plan, given, bound, check))
        elif isinstance(check, OptOut):
            breaches.extend(_check_opt_out(plan, given, bound, check))
        elif isinstance(check, Signal) and given.signals.gpc:
            breaches.append(_breach(bound, "gpc-ignored", f"an opt-out signal was on, and the event is for {plan.purpose}"))
    if plan.minors:
        age = given.signals.age or _age_on_record(given)
        if age is not None:
            for bound in plan.minors:
                breaches.extend(_check_minor(plan, given, bound, age[1]))
    if plan.purpose == "transfer" or given.signals.destination or given.signals.storage:
        for bound in plan.transfers:
            breaches.extend(_check_transfer(plan, given, bound))
    if given.has_title:
        for bound in plan.disclosures:
            breaches.extend(_check_disclosure(plan, given, bound))
    if given.signals.categories:
        for bound in plan.limits:
            breaches.extend(_check_limits(plan, given, bound))
    consent = consent_for(plan, given, plan.purpose).state
    if consent == "UNKNOWN" and given.signals.sale_refused and plan.purpose in SALE_PURPOSES:
        consent = "DENIED"
    if len(breaches) > 1:
        breaches.sort(key=lambda breach: breach.law)
    breaches.extend(_unresolved(plan, consent, given))
    if plan.necessary or (not plan.asks_consent and consent in ("UNKNOWN", "EXPIRED")):
        consent = "NOT_REQUIRED"
    return Judgement(consent, tuple(breaches))


def _breach(bound: Bound, rule: str, facts: str, severity: Severity | None = None) -> Breach:
    return Breach(law=bound.law, rule=rule, article=bound.check.article, severity=severity or bound.check.severity, facts=facts)


def _age_on_record(given: Circumstances) -> tuple[int, int] | None:
    if not given.ledger.birth_year:
        return None
    return age_from_birth_year(given.ledger.birth_year, day_of(given.at_ms).year)


def _check_opt_in(plan: Plan, given: Circumstances, bound: Bound, check: OptIn) -> Iterator[Breach]:
    state = consent_for(plan, given, plan.purpose, separate=check.separate, valid_months=check.valid_months).state
    if state == "GRANTED":
        return
    rule, why = _CONSENT_RULES[state]
    severity = worse(check.severity) if state in REFUSED else check.severity
    unread = "; a consent string is there that cannot be read" if state == "UNKNOWN" and given.signals.string_unread else ""
    yield _breach(bound, rule, f"{plan.purpose} needs prior consent, and {why}{unread}", severity)


def _check_opt_out(plan: Plan, given: Circumstances, bound: Bound, check: OptOut) -> Iterator[Breach]:
    refusals = [
        found
        for purpose in (plan.purpose, *(one for one in check.refusal_of if one != plan.purpose))
        if (found := consent_at(given.ledger, purpose, given.at_ms)).state in REFUSED
    ]
    severity = worse(check.severity)
    if refusals:
        first = min(found.effective_at or 0 for found in refusals)
        in_grace = check.grace is not None and given.at_ms < due_ms(first, check.grace)
        why = "the person has opted out" + (" (the longest time the law gives to comply has not passed)" if in_grace else "")
        yield _breach(bound, "opt-out-ignored", f"{why}, and the event is for {plan.purpose}", check.severity if in_grace else severity)
    elif given.signals.sale_refused and plan.purpose in SALE_PURPOSES:
        yield _breach(bound, "opt-out-ignored", f"the US privacy string opts out, and the event is for {plan.purpose}", severity)


def _check_minor(plan: Plan, given: Circumstances, bound: Bound, highest_age: int) -> Iterator[Breach]:
    check = bound.check
    if not isinstance(check, Minor) or bound.age_limit is None or not check.from_age <= highest_age < bound.age_limit:
        return
    who = f"the viewer is known to be under {bound.age_limit}"
    if check.requires == "nothing":
        yield _breach(bound, "minor-processing-forbidden", f"{who}, and {plan.purpose} is not allowed at that age")
        return
    consent = consent_for(plan, given, plan.purpose)
    if check.requires == "guardian-consent":
        by_guardian = consent.by_guardian or (given.signals.guardian_consent and consent.state not in REFUSED)
        if not by_guardian or consent.state in REFUSED or consent.state == "EXPIRED":
            yield _breach(bound, "parental-consent-missing", f"{who}, and no parent or guardian has allowed {plan.purpose}")
    elif consent.state != "GRANTED":
        yield _breach(bound, "minor-consent-missing", f"{who}, and has not opted in to {plan.purpose}")


def _check_transfer(plan: Plan, given: Circumstances, bound: Bound) -> Iterator[Breach]:
    check, signals = bound.check, given.signals
    if isinstance(check, Localisation):
        if signals.storage and signals.storage[:2] not in bound.home and signals.safeguard not in check.safeguards:
            yield _breach(bound, "stored-abroad", f"the data are stored in {_place(signals.storage)}, and no accepted safeguard is stated")
        return
    if not isinstance(check, Transfer):
        return
    for destination in dict.fromkeys((signals.destination, signals.storage)):
        if destination is None and (signals.destination or signals.storage or plan.purpose != "transfer"):
            continue
        where = destination[:2] if destination else ""
        if where in bound.home or where in bound.adequate:
            continue
        consent = consent_for(plan, given, "transfer", separate=True).state
        target = f"data go to {_place(destination)}" if destination else "data go abroad, nobody says where"
        safe = signals.safeguard in check.safeguards
        if not safe and not (check.consent == "alternative" and consent == "GRANTED"):
            yield _breach(bound, "transfer-unsafeguarded", f"{target}, and neither adequacy nor an accepted safeguard is stated")
        if check.consent == "required" and consent != "GRANTED":
            yield _breach(bound, "transfer-consent-missing", f"{target}, and there is no separate consent to it")


def _check_disclosure(plan: Plan, given: Circumstances, bound: Bound) -> Iterator[Breach]:
    check = bound.check
    if not isinstance(check, Disclosure) or not (given.signals.disclosed or plan.purpose in check.purposes):
        return
    purpose = plan.purpose if plan.purpose in check.purposes else "disclosure"
    consent = consent_for(plan, given, purpose, separate=True, valid_months=check.valid_months)
    if consent.state != "GRANTED":
        severity = worse(check.severity) if consent.state in REFUSED else check.severity
        why = _CONSENT_RULES[consent.state][1]
        yield _breach(bound, "disclosure-unconsented", f"a third party learns which title was watched, and {why}", severity)


def _check_limits(plan: Plan, given: Circumstances, bound: Bound) -> Iterator[Breach]:
    check = bound.check
    if isinstance(check, Minimisation) and (found := [one for one in given.signals.categories if one in check.categories]):
        yield _breach(bound, "data-excessive", f"the metadata carry {', '.join(found)}, which {plan.purpose} does not need")


def _place(code: str) -> str:
    return "an unknown place" if code == UNKNOWN_PLACE else code


def _unresolved(plan: Plan, consent: ConsentState, given: Circumstances) -> Iterator[Breach]:
    """What cannot be decided is said, not passed over."""

    def unresolved(rule: str, facts: str) -> Breach:
        return Breach(law=UNRESOLVED, rule=rule, article="", severity="LOW", facts=facts)

    if plan.place_unknown:
        yield unresolved("jurisdiction-unknown", "a place of the event is not a known ISO 3166 code, so that the laws are not known")
    if plan.uncovered and consent != "GRANTED":
        yield unresolved("jurisdiction-uncovered", f"no law of the place is on file, and there is no consent to {plan.purpose}")
    if plan.state_unknown and (consent in REFUSED or (given.signals.gpc and plan.purpose in SALE_PURPOSES)):
        yield unresolved("state-unknown", f"the person has opted out of {plan.purpose}, and the state whose law would say so is not known")
