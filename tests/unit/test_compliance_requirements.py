"""The table, the strictest merge and its sources, and which codes can be asked for."""

from __future__ import annotations

import json
from datetime import date
from typing import Any

import pytest

from rules.applicability import MAX_PLANS, Applicability
from rules.examples import Discrepancy, run_examples
from rules.jurisdictions import expand
from rules.packs import Packs, load_packs
from rules.requirements import COLUMNS, UnknownCode, merge_strictest, regulations_json, regulations_table, select_packs

PACKS = load_packs()
TODAY = date(2026, 11, 22)


def asked(at: date = TODAY, for_code: str | None = None) -> dict[str, Any]:
    found = regulations_json(PACKS, at, for_code)
    assert not isinstance(found, UnknownCode)
    return found


def codes(at: date = TODAY, for_code: str | None = None) -> list[str]:
    return [pack["code"] for pack in asked(at, for_code)["packs"]]


def test_json_has_the_columns_and_null_for_nothing() -> None:
    found = asked()
    assert json.loads(json.dumps(found)) == found
    by_code = {pack["code"]: pack for pack in found["packs"]}
    assert all(set(COLUMNS) <= set(pack) for pack in by_code.values())
    gdpr, pipl = by_code["GDPR"], by_code["PIPL"]
    assert (gdpr["breach_authority_hours"], gdpr["gpc_must_be_honoured"], gdpr["in_force_since"]) == (72, "n", "2018-05-25")
    assert gdpr["jurisdiction_codes"].split() == gdpr["jurisdictions"]
    assert (pipl["breach_authority_hours"], pipl["access_days"], pipl["breach_clock_start"]) == (None, None, "discovery")
    assert found["rules_version"] == PACKS.rules_version


@pytest.mark.parametrize(
    ("for_code", "expected"),
    [
        ("GDPR", ["GDPR"]),
        ("US-CA", ["CCPA", "COPPA", "VPPA"]),
        ("us", ["COPPA", "VPPA"]),
        ("PR", ["COPPA", "VPPA"]),
        ("UK", ["UK_GDPR"]),
        ("EU", ["EPRIVACY", "GDPR"]),
        ("RE", ["GDPR"]),
        ("CA-QC", ["PIPEDA", "QC_LAW25"]),
        ("IN", []),
        ("DPDP_IN", []),
    ],
)
def test_for_a_law_or_a_place(for_code: str, expected: list[str]) -> None:
    assert codes(for_code=for_code) == expected


def test_at_another_date() -> None:
    assert codes(date(2027, 5, 13), "IN") == ["DPDP_IN"]
    assert codes(date(2018, 5, 24), "DE") == ["EPRIVACY"]


@pytest.mark.parametrize("code", ["XX", "", "CH", "GDPRR"])
def test_an_unknown_code_is_a_value(code: str) -> None:
    found = regulations_json(PACKS, TODAY, code)
    assert isinstance(found, UnknownCode)
    assert "GDPR" in found.known


def test_strictest_skips_hours_that_do_not_bind_streaming() -> None:
    found = asked(for_code="DE")["strictest"]
    assert (found["breach_authority_hours"]["value"], found["breach_authority_hours"]["source"]) == (72, "GDPR")
    everything = asked()["strictest"]
    assert everything["breach_authority_hours"]["value"] == 72
    assert "EPRIVACY" not in everything["breach_authority_hours"]["sources"]
    assert "detection" not in everything["breach_authority_hours_by_clock"]


def test_strictest_names_its_sources() -> None:
    found = merge_strictest(PACKS.in_force(TODAY))
    sources = {
        name: (one.value, one.source)
        for name in (
            "access_days",
            "erasure_days",
            "parental_consent_below_age",
            "consent_model",
            "gpc_must_be_honoured",
            "fine_pct_turnover",
            "erasure_right",
        )
        if (one := getattr(found, name))
    }
    assert sources == {
        "access_days": (10, "PIPA_KR"),
        "erasure_days": (10, "PIPA_KR"),
        "parental_consent_below_age": (20, "PDPA_TH"),
        "consent_model": ("opt-in", "COPPA"),
        "gpc_must_be_honoured": ("y", "CCPA"),
        "fine_pct_turnover": (30, "AU_PRIVACY"),
        "erasure_right": ("y", "APPI"),
    }
    assert found.fine_cap_amount["USD"].value == 53088
    assert found.fine_cap_amount["EUR"].currency == "EUR"
    assert found.breach_authority_hours_by_clock["notice_to_individuals"].sources == ("CCPA",)


def test_strictest_of_laws_that_say_nothing() -> None:
    found = merge_strictest(())
    assert (found.breach_authority_hours, found.access_days, found.fine_cap_amount) == (None, None, {})
    assert asked(for_code="CN")["strictest"]["breach_authority_hours"] is None


def test_gdpr_and_california_together_are_72_hours_not_30_days() -> None:
    laws = [pack for code in ("GDPR", "CCPA") if (pack := PACKS.find(code))]
    found = merge_strictest(laws)
    assert found.breach_authority_hours is not None
    assert (found.breach_authority_hours.value, found.breach_authority_hours.clock_start) == (72, "awareness")


def test_the_table_for_people() -> None:
    selected = select_packs(PACKS, TODAY)
    assert not isinstance(selected, UnknownCode)
    rows = {row.code: row for row in regulations_table(selected)}
    assert rows["GDPR"].where == "AT BE … (37)"
    assert rows["EPRIVACY"].breach == "24 h from detection (not for streaming)"
    assert rows["GDPR"].fine == "4 % / EUR 20,000,000"
    assert (rows["PIPL"].breach, rows["PIPL"].access) == ("-", "-")
    assert rows["PDPA_SG"].erasure == "no right"
    assert rows["FDBR_FL"].access == "45+15 d"


def test_groups_are_expanded() -> None:
    assert {"DE", "NO", "RE", "US"} <= expand(("EEA", "US"))
    assert len(expand(("EU",))) == 34


def test_plans_are_remembered_within_bounds() -> None:
    laws = Applicability(PACKS)
    first = laws.plan("NL", None, (), 1_777_593_600_000, "service")
    assert laws.plan("NL", None, (), 1_777_593_600_001, "service") is first
    for number in range(MAX_PLANS):
        laws.plan("NL", f"x{number}", (), 1_777_593_600_000, "service")
    again = laws.plan("NL", None, (), 1_777_593_600_000, "service")
    assert again is not first
    assert again == first


def test_an_example_that_lies_is_found() -> None:
    import msgspec

    gdpr = PACKS.find("GDPR")
    assert gdpr is not None
    example = msgspec.structs.replace(gdpr.example[0], breaks=("consent-missing",))
    lying = Packs((msgspec.structs.replace(gdpr, example=(example,)),), "x")
    assert run_examples(lying) == [Discrepancy("GDPR", example.name, "consent-missing", "lawful")]
    elsewhere = msgspec.structs.replace(gdpr.example[0], applies=False)
    assert run_examples(Packs((msgspec.structs.replace(gdpr, example=(elsewhere,)),), "x"))[0].expected == "the law does not apply"
