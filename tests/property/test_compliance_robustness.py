"""Whatever a gateway sends, an event is judged: no exception, and nothing of it in the facts."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from rules.applicability import Applicability
from rules.laws import Circumstances, judge
from rules.packs import load_packs
from rules.purposes import load_purposes
from rules.signals import CATEGORIES, KNOWN_KEYS, read_signals
from schemas.records import EVENT_TYPES
from tables.ledger import ConsentEntry, Ledger, learn_birth_year, learn_consent

LAWS = Applicability(load_packs())
SECRET = "x7secretx7"
values = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=8), st.just(SECRET), st.lists(st.integers(), max_size=2),
    st.sampled_from(["child", "US", "CN", "DE", "scc", "1", 12, 2015]),
)  # fmt: skip
metadata = st.dictionaries(st.sampled_from(sorted(KNOWN_KEYS | set(CATEGORIES))), values, max_size=6)
regions = st.one_of(st.sampled_from(["NL", "DE", "US", "CN", "GB", "BR", "TH", "KR", "ZZ", "SA"]), st.text(max_size=6))
subdivisions = st.one_of(st.none(), st.sampled_from(["US-CA", "US-MD", "US-CT", "CA-QC"]), st.text(max_size=8))
purposes = st.one_of(st.none(), st.sampled_from(sorted(load_purposes().canonical)), st.text(max_size=12))
moments = st.integers(0, 4_000_000_000_000)
entries = st.builds(ConsentEntry, moments, st.booleans(), st.integers(0, 9), st.one_of(st.just(-1), moments), st.sampled_from([-1, 0, 1]))


@given(
    st.one_of(metadata.map(json.dumps), st.text(max_size=20)), regions, subdivisions, purposes, st.sampled_from(EVENT_TYPES), moments, st.booleans(),
    st.one_of(st.none(), st.text(max_size=6), st.sampled_from(["1YYN", "1YNN", "CPabc"])),
    st.lists(st.tuples(st.sampled_from([*load_purposes().entries, "*"]), entries), max_size=4), st.integers(1900, 2090),
)  # fmt: skip
def test_everything_is_judged(
    text: str, region: str, subdivision: str | None, purpose: str | None, event_type: Any, at_ms: int, flag: bool, consent_string: str | None,
    consents: list[tuple[str, ConsentEntry]], born: int,
) -> None:  # fmt: skip
    ledger = Ledger()
    for name, entry in consents:
        learn_consent(ledger, name, entry)
    learn_birth_year(ledger, born, at_ms)
    signals = read_signals(text, consent_string, 2026)
    plan = LAWS.plan(region, subdivision, signals.countries, at_ms, load_purposes().resolve(purpose, event_type))
    found = judge(plan, Circumstances(at_ms, flag, True, signals, ledger))
    assert found == judge(plan, Circumstances(at_ms, flag, True, signals, ledger))
    for breach in found.breaches:
        assert breach.law in plan.laws or breach.law == "UNRESOLVED"
        assert breach.facts
        assert SECRET.upper() not in breach.facts.upper()
    if plan.necessary:
        assert not any(breach.rule.startswith(("consent-", "opt-out", "gpc-")) for breach in found.breaches)
    if not plan.laws and not plan.necessary and not flag and found.consent != "GRANTED":
        assert found.breaches, "nothing passes in silence"
