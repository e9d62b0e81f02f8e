"""The compliance steps: what they add to events, what they learn, and that neither batches nor repeats matter."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.compliance import check_events, learn_consents
from agents.step import Outputs, user_key
from rules.packs import load_packs
from schemas.codec import Case
from schemas.records import Compliance, ConsentRecord, Event, Origin
from tables.ledger import Ledger

PACKS = load_packs()
DAY_MS = 86_400_000
MAY_2026_MS = 1_777_593_600_000
KEY = user_key("default", "u1")


def an_event(offset: int = 0, at_ms: int = MAY_2026_MS, metadata: dict[str, Any] | None = None, **fields: Any) -> Event:
    given_fields: dict[str, Any] = {
        "event_id": f"e{offset}", "tenant_id": "default", "user_id": "u1", "device_id": "tv1", "content_id": "movie", "event_type": "PLAY",
        "timestamp": at_ms, "received_at": at_ms, "region": "NL", "is_eu": True, "has_consent": False, "ip_address": "198.51.100.7",
        "extra_metadata": None if metadata is None else json.dumps(metadata), "origin": Origin(partition=0, offset=offset),
    }  # fmt: skip
    return Event(**(given_fields | fields))


def a_consent(purpose: str = "marketing", *, granted: bool = True, at_ms: int = MAY_2026_MS - DAY_MS, **fields: Any) -> ConsentRecord:
    given_fields: dict[str, Any] = {
        "consent_id": f"c-{purpose}-{granted}-{at_ms}", "tenant_id": "default", "user_id": "u1", "purpose": purpose, "granted": granted,
        "effective_at": at_ms, "source": "app",
    }  # fmt: skip
    return ConsentRecord(**(given_fields | fields))


def after(*consents: ConsentRecord) -> dict[str, Ledger]:
    return {key: ledger for key, ledger in learn_consents(consents, {}, 0).changes.items() if ledger is not None}


def check(event: Event, state: dict[str, Ledger] | None = None) -> Compliance:
    out = check_events([Case(event, parts=(b"event",))], state or {}, 7, packs=PACKS)
    found = out.cases[0].compliance
    assert found is not None
    assert out.cases[0].parts == (b"event",)
    return found


def broken(event: Event, *consents: ConsentRecord) -> list[tuple[str, str]]:
    return [(breach.law, breach.rule) for breach in check(event, after(*consents)).breaches]


# --- the answer as a whole ------------------------------------------------------------------------------------------------


def test_playback_in_the_netherlands_rests_on_the_contract() -> None:
    found = check(an_event())
    assert found == Compliance(
        laws=("EPRIVACY", "GDPR"), purpose="service", consent="NOT_REQUIRED", breaches=(), rules_version=PACKS.rules_version, checked_at=7
    )


def test_a_breach_names_law_article_severity_and_facts() -> None:
    found = check(an_event(purpose="marketing"))
    assert found.consent == "UNKNOWN"
    assert [(one.law, one.rule, one.article, one.severity) for one in found.breaches] == [
        ("EPRIVACY", "consent-missing", "Art 5(3), 13", "HIGH"),
        ("GDPR", "consent-missing", "Art 6(1)(a), 7, 21(2)-(3)", "HIGH"),
    ]
    assert found.breaches[0].facts == "marketing needs prior consent, and there is no consent on record and the gateway saw none"


def test_facts_hold_no_personal_data() -> None:
    event = an_event(
        purpose="sale", region="US", subdivision="US-CA", consent_string="secret", session_id="s-secret", email_hash="h-secret",
        metadata={"email": "secret@x", "transfer_to": "secret place!", "disclosed_to": "secret", "age": 9, "gpc": True, "storage_country": "<x>"},
    )  # fmt: skip
    for region in ("US", "CN", "DE", "ZZ"):
        found = check(msgspec.structs.replace(event, region=region))
        assert found.breaches
        for breach in found.breaches:
            assert not {"secret", "u1", "tv1", "movie", "198.51", "<x>"} & set(breach.facts.replace("@", " ").split())
            assert "secret" not in breach.facts


@pytest.mark.parametrize(
    ("region", "subdivision", "laws"),
    [
        ("DE", None, ("EPRIVACY", "GDPR")),
        ("NO", None, ("EPRIVACY", "GDPR")),
        ("RE", None, ("GDPR",)),
        ("GB", None, ("UK_GDPR",)),
        ("UK", None, ("UK_GDPR",)),
        ("US", "US-CA", ("CCPA", "COPPA", "VPPA")),
        ("US", None, ("COPPA", "VPPA")),
        ("US", "US-WA", ("COPPA", "VPPA")),
        ("PR", None, ("COPPA", "VPPA")),
        ("US", "US-OK", ("COPPA", "VPPA")),
        ("CA", None, ("PIPEDA",)),
        ("CA", "CA-QC", ("PIPEDA", "QC_LAW25")),
        ("IN", None, ()),
        ("CH", None, ()),
        ("HK", None, ()),
        ("BR", None, ("LGPD",)),
        ("CN", None, ("PIPL",)),
    ],
)
def test_laws_of_a_place(region: str, subdivision: str | None, laws: tuple[str, ...]) -> None:
    found = check(an_event(region=region, subdivision=subdivision))
    assert found.laws == laws
    assert found.breaches == ()


def test_laws_change_with_event_time() -> None:
    assert check(an_event(at_ms=1_810_080_000_000, region="IN")).laws == ()
    assert check(an_event(at_ms=1_810_166_400_000, region="IN")).laws == ("DPDP_IN",)
    assert check(an_event(at_ms=0, region="DE")).laws == ()


def test_laws_of_several_places_apply_together() -> None:
    found = check(an_event(purpose="marketing", metadata={"account_country": "BR", "ip_country": "gb"}))
    assert found.laws == ("EPRIVACY", "GDPR", "LGPD", "UK_GDPR")
    assert [one.law for one in found.breaches] == ["EPRIVACY", "GDPR", "LGPD", "UK_GDPR"]


# --- consent ----------------------------------------------------------------------------------------------------------------

OPT_IN = [("DE", ["EPRIVACY", "GDPR"]), ("GB", ["UK_GDPR"]), ("BR", ["LGPD"]), ("CN", ["PIPL"])]


@pytest.mark.parametrize(("region", "laws"), OPT_IN)
def test_opt_in_by_purpose(region: str, laws: list[str]) -> None:
    for purpose in ("service", "security", "legal"):
        assert broken(an_event(region=region, purpose=purpose)) == []
    for purpose in ("marketing", "analytics", "personalisation", "advertising", "sale", "nonsense"):
        assert broken(an_event(region=region, purpose=purpose)) == [(law, "consent-missing") for law in laws]
        assert broken(an_event(region=region, purpose=purpose, has_consent=True)) == []


@pytest.mark.parametrize(("region", "laws"), OPT_IN)
def test_consent_at_event_time(region: str, laws: list[str]) -> None:
    event = an_event(region=region, purpose="marketing", has_consent=True)
    granted, later = a_consent(), a_consent(granted=False, at_ms=MAY_2026_MS + 1)
    withdrawn = a_consent(granted=False, at_ms=MAY_2026_MS - 1)
    assert broken(event, granted, later) == []
    assert broken(event, withdrawn, granted) == [(law, "consent-withdrawn") for law in laws]
    assert broken(event, withdrawn) == [(law, "consent-denied") for law in laws]
    assert broken(event, a_consent(expires_at=MAY_2026_MS)) == [(law, "consent-expired") for law in laws]
    assert broken(event, a_consent(expires_at=MAY_2026_MS + 1)) == []
    assert check(event, after(withdrawn, granted)).breaches[0].severity == "CRITICAL"


def test_a_refusal_of_everything_does_not_stop_playback() -> None:
    found = check(an_event(), after(a_consent("*", granted=False)))
    assert (found.consent, found.breaches) == ("NOT_REQUIRED", ())


def test_california_is_opt_out() -> None:
    sale: dict[str, Any] = {"region": "US", "subdivision": "US-CA", "purpose": "sale", "content_id": ""}
    assert check(an_event(**sale)).consent == "NOT_REQUIRED"
    assert broken(an_event(**sale)) == []
    old = a_consent("sale", granted=False, at_ms=MAY_2026_MS - 60 * DAY_MS)
    fresh = a_consent("sale", granted=False, at_ms=MAY_2026_MS - DAY_MS)
    for refusal, severity in ((old, "CRITICAL"), (fresh, "HIGH")):
        found = check(an_event(**sale, has_consent=True), after(refusal))
        assert [(one.law, one.rule, one.severity) for one in found.breaches] == [("CCPA", "opt-out-ignored", severity)]
        assert found.consent == "DENIED"
    assert broken(an_event(**sale, metadata={"sec_gpc": "1"})) == [("CCPA", "gpc-ignored")]
    assert broken(an_event(**sale, consent_string="1YYN")) == [("CCPA", "opt-out-ignored")]
    assert check(an_event(**sale, consent_string="1YYN")).consent == "DENIED"
    assert broken(an_event(**sale, consent_string="1---")) == []
    assert broken(an_event(**(sale | {"purpose": None}), metadata={"gpc": True}), old) == []


def test_a_string_that_cannot_be_read_neither_grants_nor_refuses() -> None:
    event = an_event(purpose="marketing", consent_string="CPxxxxx")
    assert "cannot be read" in check(event).breaches[0].facts
    assert broken(msgspec.structs.replace(event, has_consent=True)) == []


def test_china_asks_for_separate_consents() -> None:
    sale = an_event(region="CN", purpose="sale")
    assert broken(sale, a_consent("*")) == [("PIPL", "consent-missing")]
    assert broken(sale, a_consent("sale")) == []
    abroad = an_event(region="CN", metadata={"transfer_to": "US", "transfer_safeguard": "SECURITY-ASSESSMENT"})
    assert broken(abroad) == [("PIPL", "transfer-consent-missing")]
    assert broken(abroad, a_consent("transfer")) == []


def test_transfers() -> None:
    assert broken(an_event(metadata={"transfer_to": "JP"})) == []
    assert broken(an_event(metadata={"transfer_to": "FR"})) == []
    assert broken(an_event(metadata={"destination_country": "US"})) == [("GDPR", "transfer-unsafeguarded")]
    assert broken(an_event(metadata={"destination_country": "US"}), a_consent("transfer")) == []
    assert broken(an_event(purpose="transfer")) == [("GDPR", "transfer-unsafeguarded")]
    assert broken(an_event(purpose="transfer", has_consent=True)) == []
    assert broken(an_event(metadata={"transfer_to": "uk"})) == []
    for nowhere in (5, "Narnia", "ZZ"):
        found = check(an_event(metadata={"transfer_to": nowhere}))
        assert [one.facts for one in found.breaches] == [
            "data go to an unknown place, and neither adequacy nor an accepted safeguard is stated"
        ]
    both = an_event(metadata={"transfer_to": "JP", "storage_country": "IN"})
    assert broken(both) == [("GDPR", "transfer-unsafeguarded")]


def test_age_from_the_record_and_from_the_event() -> None:
    born = a_consent("analytics", birth_year=2013)
    german: dict[str, Any] = {"region": "DE", "purpose": "analytics", "has_consent": True}
    assert broken(an_event(**german), born) == [("GDPR", "parental-consent-missing")]
    assert broken(an_event(**german, metadata={"age": 30}), born) == []
    assert broken(an_event(**german), a_consent("analytics", birth_year=2010)) == [], "15 or 16: not certainly under 16"
    assert broken(an_event(**german), a_consent("analytics", birth_year=2013, by_guardian=True)) == []
    assert broken(an_event(**german, metadata={"age": 10, "guardian_consent": True})) == []
    assert broken(an_event(**german, metadata={"age": 10, "guardian_consent": True}), a_consent("analytics", granted=False)) == [
        ("EPRIVACY", "consent-denied"), ("GDPR", "consent-denied"), ("GDPR", "parental-consent-missing"),
    ]  # fmt: skip


# --- what cannot be decided -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("region", ["ZZ", "XX", "", "Nederland", "QQ-12"])
def test_an_unknown_place_is_said(region: str) -> None:
    found = check(an_event(region=region))
    assert found.laws == ()
    assert [(one.law, one.rule, one.severity) for one in found.breaches] == [("UNRESOLVED", "jurisdiction-unknown", "LOW")]


def test_a_known_place_beside_an_unknown_one_still_counts() -> None:
    found = check(an_event(region="ZZ", metadata={"account_country": "DE"}, purpose="marketing"))
    assert [one.law for one in found.breaches] == ["EPRIVACY", "GDPR", "UNRESOLVED"]
    odd = check(an_event(region="US", subdivision="US-XX"))
    assert odd.laws == ("COPPA", "VPPA")
    assert [one.rule for one in odd.breaches] == ["jurisdiction-unknown"]


def test_a_place_without_a_law_on_file() -> None:
    assert broken(an_event(region="CH")) == []
    assert broken(an_event(region="CH", purpose="marketing")) == [("UNRESOLVED", "jurisdiction-uncovered")]
    assert broken(an_event(region="CH", purpose="marketing", has_consent=True)) == []


def test_an_opt_out_in_an_unknown_state() -> None:
    sale: dict[str, Any] = {"region": "US", "purpose": "sale", "content_id": ""}
    assert broken(an_event(**sale)) == []
    assert broken(an_event(**sale, metadata={"gpc": True})) == [("UNRESOLVED", "state-unknown")]
    assert broken(an_event(**(sale | {"purpose": "marketing"}), metadata={"gpc": True})) == []
    assert broken(an_event(**sale), a_consent("sale", granted=False)) == [("UNRESOLVED", "state-unknown")]


# --- metadata that gateways get wrong ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '"x"',
        "null",
        '{"gpc": {}}',
        '{"age": -3}',
        '{"age": true}',
        '{"age": "old"}',
        '{"birth_year": 3000}',
        '{"age_band": 4}',
        "[" * 5000,
    ],
)
def test_metadata_that_say_nothing(text: str) -> None:
    assert check(msgspec.structs.replace(an_event(purpose="sale", has_consent=True), extra_metadata=text)).breaches == ()


@pytest.mark.parametrize("metadata", [{"age": "12"}, {"birth_year": 2014}, {"age_band": "child"}, {"profile_type": "KIDS"}])
def test_ways_to_say_child(metadata: dict[str, Any]) -> None:
    event = an_event(region="US", purpose="marketing", metadata=metadata, has_consent=True)
    assert broken(event) == [("COPPA", "parental-consent-missing")]


# --- state -----------------------------------------------------------------------------------------------------------------


def test_a_consent_change_is_a_record() -> None:
    out = check_events(
        [
            Case(an_event(1, purpose="marketing", has_consent=True, event_type="CONSENT_CHANGE")),
            Case(an_event(2, MAY_2026_MS + 1, purpose="marketing")),
            Case(an_event(3, MAY_2026_MS + 2, event_type="CONSENT_CHANGE")),
            Case(an_event(4, MAY_2026_MS + 3, purpose="marketing", has_consent=True)),
            Case(an_event(5, MAY_2026_MS + 4, purpose="nonsense", has_consent=True, event_type="CONSENT_CHANGE")),
            Case(an_event(6, MAY_2026_MS + 5, purpose="gibberish", has_consent=True)),
        ],
        {},
        0,
        packs=PACKS,
    )
    found = [(one.compliance.purpose, one.compliance.consent) for one in out.cases if one.compliance]
    assert [purpose for purpose, _ in found[::2]] == ["legal"] * 3
    assert found[1::2] == [("marketing", "GRANTED"), ("marketing", "WITHDRAWN"), ("unspecified", "DENIED")]


def test_retries_and_redeliveries_are_left_out() -> None:
    events = [an_event(0), an_event(0), an_event(1, event_id="e0"), an_event(2)]
    out = check_events([Case(event) for event in events], {}, 0, packs=PACKS)
    assert [case.event.origin.offset for case in out.cases] == [0, 2]
    assert out.repeats == 2
    assert list(out.changes) == [KEY]


def test_tenants_do_not_share_consents() -> None:
    state = after(a_consent())
    assert check(an_event(purpose="marketing", tenant_id="other"), state).consent == "UNKNOWN"


def test_consents_that_are_refused() -> None:
    records = [
        a_consent("world peace"),
        a_consent("unspecified"),
        a_consent(expires_at=MAY_2026_MS - 2 * DAY_MS),
        a_consent(at_ms=-1),
        a_consent(birth_year=2031),
        a_consent(birth_year=1850),
        a_consent(" * "),
    ]
    out = learn_consents(records, {}, 0)
    assert [(one.position, one.faults[0].code) for one in out.rejects] == [
        (0, "consent-purpose"), (1, "consent-purpose"), (2, "consent-times"), (3, "consent-times"), (4, "consent-birth-year"), (5, "consent-birth-year"),
    ]  # fmt: skip
    ledger = out.changes[KEY]
    assert ledger is not None
    assert list(ledger.history) == ["*"]


def test_a_consent_learned_again_teaches_nothing() -> None:
    state = after(a_consent(birth_year=1990))
    out = learn_consents([a_consent(birth_year=1990)], state, 0)
    assert (out.changes, out.repeats) == ({}, 1)


def run(batches: list[list[Event]]) -> tuple[list[Compliance | None], dict[str, str], int]:
    state: dict[str, bytes] = {}
    decided: list[Compliance | None] = []
    repeats = 0
    for batch in batches:
        fresh = {key: msgspec.msgpack.decode(value, type=Ledger) for key, value in state.items()}
        out: Outputs[Ledger] = check_events([Case(event) for event in batch], fresh, 0, packs=PACKS)
        decided += [case.compliance for case in out.cases]
        repeats += out.repeats
        state |= {key: msgspec.msgpack.encode(value) for key, value in out.changes.items()}
    ledgers = {key: msgspec.msgpack.decode(value, type=Ledger) for key, value in state.items()}
    remembered = {key: repr((one.history, one.seen, one.newest_s, sorted(one.recent.items()))) for key, one in ledgers.items()}
    return decided, remembered, repeats


events_drawn = st.lists(
    st.tuples(
        st.integers(0, 12), st.sampled_from(["u1", "u2"]), st.integers(0, 3 * DAY_MS), st.sampled_from(["PLAY", "CONSENT_CHANGE"]),
        st.sampled_from([None, "marketing", "sale"]), st.booleans(), st.sampled_from(["NL", "CN", "US", "ZZ"]),
    ),
    max_size=30,
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(events_drawn, st.sets(st.integers(1, 29)))
def test_the_cut_into_batches_does_not_matter(drawn: list[tuple[Any, ...]], cuts: set[int]) -> None:
    events = [
        an_event(
            offset,
            MAY_2026_MS + at,
            event_id=f"e{number}",
            user_id=user,
            event_type=kind,
            purpose=purpose,
            has_consent=consent,
            region=region,
        )
        for offset, (number, user, at, kind, purpose, consent, region) in enumerate(drawn)
    ]
    edges = [0, *sorted(cut for cut in cuts if cut < len(events)), len(events)]
    pieces = [events[start:end] for start, end in pairwise(edges)]
    assert run(pieces) == run([events])
