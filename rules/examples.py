"""Runs the examples that every pack carries: the law is held against its own words."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from rules.applicability import Applicability
from rules.laws import Circumstances, judge
from rules.packs import Example, ExampleConsent, Pack, Packs
from rules.purposes import load_purposes
from rules.signals import read_signals
from tables.ledger import ALL_PURPOSES, ConsentEntry, Ledger, digest64, learn_birth_year, learn_consent


class Discrepancy(NamedTuple):
    """An example that comes out otherwise than its pack says."""

    law: str
    example: str
    expected: str
    found: str


def ledger_of(consents: tuple[ExampleConsent, ...]) -> Ledger:
    """The ledger that holds an example's consents."""
    ledger = Ledger()
    for number, one in enumerate(consents):
        at_ms = int(one.at.timestamp() * 1000)
        entry = ConsentEntry(
            effective_at=at_ms,
            refused=not one.granted,
            digest=digest64(str(number)),
            expires_at=-1 if one.expires is None else int(one.expires.timestamp() * 1000),
            guardian=-1 if one.by_guardian is None else int(one.by_guardian),
        )
        purpose = one.purpose if one.purpose == ALL_PURPOSES else load_purposes().resolve(one.purpose, "UNKNOWN")
        learn_consent(ledger, purpose, entry)
        if one.birth_year is not None:
            learn_birth_year(ledger, one.birth_year, at_ms)
    return ledger


def run_example(laws: Applicability, pack: Pack, example: Example) -> Discrepancy | None:
    """Judges an example under all packs and compares what this one law says.

    Args:
        laws: the packs in force.
        pack: the law.
        example: one of its examples.

    Returns:
        None where it comes out as the pack says.
    """
    at_ms = int(example.at.timestamp() * 1000)
    purpose = load_purposes().resolve(example.purpose, example.event_type)
    metadata = msgspec.json.encode(example.metadata).decode() if example.metadata else None
    signals = read_signals(metadata, example.consent_string, example.at.year)
    plan = laws.plan(example.region, example.subdivision, signals.countries, at_ms, purpose)
    given = Circumstances(at_ms, example.has_consent, bool(example.content_id), signals, ledger_of(example.consents))
    applies = pack.code in plan.laws
    broken = tuple(breach.rule for breach in judge(plan, given).breaches if breach.law == pack.code)
    if applies == example.applies and broken == example.breaks:
        return None
    expected = _words(applies=example.applies, broken=example.breaks)
    return Discrepancy(pack.code, example.name, expected, _words(applies=applies, broken=broken))


def run_examples(packs: Packs) -> list[Discrepancy]:
    """All examples of all packs that come out otherwise than written."""
    laws = Applicability(packs)
    return [found for pack in packs.laws for example in pack.example if (found := run_example(laws, pack, example))]


def _words(*, applies: bool, broken: tuple[str, ...]) -> str:
    return ", ".join(broken) or ("lawful" if applies else "the law does not apply")
