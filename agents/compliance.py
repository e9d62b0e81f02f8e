"""Compliance: which laws apply to an event, which consent counted, and what is breached. Pure steps over batches.

Two sources feed one ledger a user: events (`check_events`) and consent records (`learn_consents`). Records win by their
own time, so that the order in which the two topics arrive matters only for events that are judged before a record that
concerns them is known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

from agents.step import Fault, Outputs, Rejected, user_key
from rules.applicability import Applicability
from rules.laws import Circumstances, judge
from rules.packs import DAY_MS, Packs, day_of
from rules.purposes import UNSPECIFIED, Purposes, load_purposes
from rules.signals import read_signals
from schemas.codec import Case
from schemas.records import Compliance, ConsentRecord, Event
from tables.ledger import (
    ALL_PURPOSES,
    ConsentEntry,
    Ledger,
    count_event,
    digest64,
    forget_old_events,
    learn_birth_year,
    learn_consent,
)

OLDEST_AGE: Final = 130


@lru_cache(maxsize=4)
def applicability_of(packs: Packs) -> Applicability:
    """The packs' applicability; remembered, because its plans are worth keeping from batch to batch."""
    return Applicability(packs)


@lru_cache(maxsize=1024)
def _year_of_day(day: int) -> int:
    return day_of(day * DAY_MS).year


def check_events(batch: Sequence[Case], state: Mapping[str, Ledger], now_ms: int, *, memory: Any = None, packs: Packs) -> Outputs[Ledger]:
    """Adds what the law says to every event that was not counted before.

    Args:
        batch: valid events in log order.
        state: each user's ledger, by `user_key`; a fresh copy that is changed here.
        now_ms: processing time (Unix ms), only stamped on `Compliance.checked_at`.
        memory: not used.
        packs: the laws.

    Returns:
        `cases` with `compliance`, `changes` of the ledgers that were touched, `repeats`: redeliveries and gateway retries.
    """
    out: Outputs[Ledger] = Outputs()
    laws, purposes = applicability_of(packs), load_purposes()
    version = packs.rules_version
    touched = out.changes
    for case in batch:
        event = case.event
        key = user_key(event.tenant_id, event.user_id)
        ledger = touched.get(key)
        if ledger is None:
            ledger = touched[key] = state.get(key) or Ledger()
        at_ms = event.timestamp
        if not count_event(ledger, event.event_id, at_ms, event.origin):
            out.repeats += 1
            continue
        if event.event_type == "CONSENT_CHANGE":
            _learn_from_event(ledger, event, purposes)
        purpose = purposes.resolve(event.purpose if event.event_type != "CONSENT_CHANGE" else None, event.event_type)
        signals = read_signals(event.extra_metadata, event.consent_string, _year_of_day(at_ms // DAY_MS))
        plan = laws.plan(event.region, event.subdivision, signals.countries, at_ms, purpose)
        found = judge(plan, Circumstances(at_ms, event.has_consent, bool(event.content_id), signals, ledger))
        compliance = Compliance(
            laws=plan.laws,
            purpose=purpose,
            consent=found.consent,
            breaches=found.breaches,
            rules_version=version,
            checked_at=now_ms,
        )
        out.cases.append(Case(event, compliance, parts=case.parts))
    for ledger in touched.values():
        if ledger is not None:
            forget_old_events(ledger)
    return out


def _learn_from_event(ledger: Ledger, event: Event, purposes: Purposes) -> None:
    """A CONSENT_CHANGE event is a consent record: its purpose (all where it names none) and its flag, from its own time.

    A purpose that nobody knows can be refused but not granted.
    """
    purpose = purposes.find(event.purpose) or UNSPECIFIED if event.purpose else ALL_PURPOSES
    if purpose == UNSPECIFIED and event.has_consent:
        return
    learn_consent(ledger, purpose, ConsentEntry(event.timestamp, not event.has_consent, digest64(event.event_id)))


def learn_consents(batch: Sequence[ConsentRecord], state: Mapping[str, Ledger], now_ms: int, *, memory: Any = None) -> Outputs[Ledger]:
    """Takes consent records into the ledgers. Any order and any number of repeats give the same ledgers.

    Args:
        batch: consent records in log order.
        state: each user's ledger, by `user_key`; a fresh copy that is changed here.
        now_ms: not used: consents hold from their own time.
        memory: not used.

    Returns:
        `changes` of the ledgers that learned something, `repeats` for records that taught nothing new, and `rejects` with code
        consent-purpose, consent-times or consent-birth-year.
    """
    out: Outputs[Ledger] = Outputs()
    working: dict[str, Ledger] = {}
    purposes = load_purposes()
    for position, record in enumerate(batch):
        faults = consent_faults(record, purposes)
        if faults:
            out.rejects.append(Rejected(position, faults))
            continue
        key = user_key(record.tenant_id, record.user_id)
        ledger = working.get(key)
        if ledger is None:
            ledger = working[key] = state.get(key) or Ledger()
        purpose = purposes.find(record.purpose) or ALL_PURPOSES
        entry = ConsentEntry(
            effective_at=record.effective_at,
            refused=not record.granted,
            digest=digest64(record.consent_id),
            expires_at=-1 if record.expires_at is None else record.expires_at,
            guardian=-1 if record.by_guardian is None else int(record.by_guardian),
        )
        learned = learn_consent(ledger, purpose, entry)
        if record.birth_year is not None:
            learned = learn_birth_year(ledger, record.birth_year, record.effective_at) or learned
        if learned:
            out.changes[key] = ledger
        else:
            out.repeats += 1
    return out


def consent_faults(record: ConsentRecord, purposes: Purposes) -> tuple[Fault, ...]:
    """Why a consent record cannot be taken: an unknown purpose, times that contradict each other, an impossible year of birth."""
    faults: list[Fault] = []
    if record.purpose.strip() != ALL_PURPOSES and purposes.find(record.purpose) in (None, UNSPECIFIED):
        faults.append(Fault("consent-purpose", "the purpose is not in the vocabulary of rules/purposes.toml"))
    if record.effective_at < 0 or (record.expires_at is not None and record.expires_at <= record.effective_at):
        faults.append(Fault("consent-times", "effective_at is negative, or expires_at is not after it"))
    elif record.birth_year is not None:
        year = _year_of_day(min(record.effective_at, 250_000_000_000_000) // DAY_MS)
        if not year - OLDEST_AGE <= record.birth_year <= year:
            faults.append(Fault("consent-birth-year", f"the year of birth is not within {OLDEST_AGE} years before the consent"))
    return tuple(faults)
