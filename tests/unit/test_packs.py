"""The packs' facts against known answers, their dates, and what the validator says to bad packs."""

from __future__ import annotations

from datetime import date

import pytest

from rules.pack_errors import validate_packs
from rules.packs import Packs, day_ms, day_of, load_packs, pack_sources, rules_version
from rules.purposes import PurposeEntry, index_purposes, load_purposes

# code: breach h, access d, extension d, erasure d, age, gpc, % turnover, cap, currency; a dot is "the law gives none".
NUMBERS = """
GDPR        72   30 60 30 16 n 4  20000000   EUR
UK_GDPR     72   30 60 30 13 n 4  17500000   GBP
EPRIVACY    24   .  .  .  .  n .  .          .
CCPA        360  45 45 45 13 y .  7988       USD
VCDPA       .    45 45 45 13 n .  7500       USD
CPA_CO      720  45 45 45 13 y .  20000      USD
CTDPA       1440 45 45 45 13 y .  5000       USD
UCPA        .    45 45 45 13 n .  7500       USD
TDPSA       720  45 45 45 13 y .  7500       USD
COPPA       .    .  .  .  13 n .  53088      USD
VPPA        .    .  .  .  .  n .  2500       USD
PIPL        .    .  .  .  14 n 5  50000000   CNY
PDPA_TH     72   30 .  90 20 n .  5000000    THB
PDPA_SG     72   30 .  .  .  n 10 1000000    SGD
LGPD        72   15 .  .  12 n 2  50000000   BRL
POPIA       .    30 .  30 18 n .  10000000   ZAR
AU_PRIVACY  .    .  .  .  .  n 30 50000000   AUD
PIPEDA      .    30 30 .  .  n .  100000     CAD
QC_LAW25    .    30 .  30 14 n 4  25000000   CAD
KVKK        72   30 .  30 .  n .  17092242   TRY
PDPL_SA     72   30 30 30 18 n .  5000000    SAR
DPDP_IN     72   90 .  .  18 n .  2500000000 INR
APPI        120  .  .  .  .  n .  100000000  JPY
PIPA_KR     72   10 .  10 14 n 10 5000000000 KRW
FDBR_FL     .    45 15 45 .  n .  50000      USD
OCPA_OR     .    45 45 45 .  y .  7500       USD
MCDPA_MT    .    45 45 45 .  y .  7500       USD
DPDPA_DE    .    45 45 45 .  y .  10000      USD
ICDPA_IA    .    90 45 90 .  n .  7500       USD
NDPA_NE     .    45 45 45 .  y .  7500       USD
NHPA_NH     .    45 45 45 .  y .  10000      USD
NJDPA_NJ    .    45 45 45 .  y .  20000      USD
TIPA_TN     .    45 45 45 .  n .  7500       USD
MCDPA_MN    .    45 45 45 .  y .  7500       USD
MODPA_MD    .    45 45 45 .  y .  25000      USD
INCDPA_IN   .    45 45 45 .  n .  7500       USD
KCDPA_KY    .    45 45 45 .  n .  7500       USD
RIDTPPA_RI  .    45 45 45 .  n .  10000      USD
OCDPA_OK    .    45 45 45 .  n .  7500       USD
SB386_LA    .    .  .  .  .  . .  .          .
APDPA_AL    .    .  .  .  .  . .  .          .
"""

TODAY = date(2026, 11, 22)


@pytest.mark.parametrize("line", NUMBERS.strip().splitlines())
def test_numbers_of_the_law(line: str) -> None:
    code, *expected = line.split()
    pack = load_packs().find(code)
    assert pack is not None
    gpc = {True: "y", False: "n", None: None}[pack.gpc_must_be_honoured]
    found = (
        pack.breach_authority_hours, pack.access_days, pack.access_extension_days, pack.erasure_days, pack.parental_consent_below_age,
        gpc, pack.fine_pct_turnover, pack.fine_cap_amount, pack.fine_cap_currency,
    )  # fmt: skip
    assert ["." if value is None else str(value) for value in found] == expected


def test_every_law_is_in_the_table() -> None:
    assert {pack.code for pack in load_packs().laws} == {line.split()[0] for line in NUMBERS.strip().splitlines()}


def test_hours_business_days_and_clocks_are_kept_apart() -> None:
    laws = {pack.code: pack for pack in load_packs().laws}
    terms = {code: laws[code].breach_authority_term for code in ("GDPR", "LGPD", "PDPA_SG", "CCPA")}
    assert {code: (term.amount, term.unit) for code, term in terms.items() if term} == {
        "GDPR": (72, "hours"),
        "LGPD": (3, "business-days"),
        "PDPA_SG": (3, "days"),
        "CCPA": (15, "days"),
    }
    assert laws["CCPA"].breach_clock_start == "notice_to_individuals"
    assert laws["PDPA_SG"].breach_clock_start == "assessment"
    assert laws["EPRIVACY"].breach_hours_apply_to_ott is False
    access = laws["GDPR"].access_term
    assert access is not None
    assert (access.amount, access.unit) == (1, "calendar-months")


@pytest.mark.parametrize(
    ("code", "first"),
    [("DPDP_IN", date(2027, 5, 13)), ("OCDPA_OK", date(2027, 1, 1)), ("SB386_LA", date(2027, 1, 1)), ("APDPA_AL", date(2027, 5, 1))],
)
def test_laws_not_yet_in_force(code: str, first: date) -> None:
    packs = load_packs()
    assert code not in {pack.code for pack in packs.in_force(TODAY)}
    assert code not in {pack.code for pack in packs.in_force(date.fromordinal(first.toordinal() - 1))}
    assert code in {pack.code for pack in packs.in_force(first)}
    assert len(packs.in_force(TODAY)) == 37


def test_facts_as_they_read_on_the_day() -> None:
    korea, california, texas = (load_packs().find(code) for code in ("PIPA_KR", "CCPA", "TDPSA"))
    assert korea is not None
    assert california is not None
    assert texas is not None
    assert korea.as_of(date(2026, 9, 10)).fine_pct_turnover == 3
    assert korea.as_of(date(2026, 9, 11)) is korea
    assert california.as_of(date(2025, 12, 31)).breach_authority_hours is None
    assert california.as_of(date(2026, 1, 1)).breach_authority_hours == 360
    assert texas.as_of(date(2024, 12, 31)).gpc_must_be_honoured is False


def test_repealed_law_is_not_in_force() -> None:
    import msgspec

    pack = msgspec.structs.replace(load_packs().laws[0], in_force_since=date(2020, 1, 1), in_force_until=date(2021, 1, 1))
    assert [pack.in_force(date(year, 1, 1)) for year in (2019, 2020, 2021)] == [False, True, False]


def test_packs_are_found_by_code_and_loaded_once() -> None:
    assert load_packs() is load_packs()
    assert load_packs().find("NONE") is None
    assert Packs((), "x").in_force(TODAY) == ()


def test_rules_version_changes_with_content_and_not_with_order() -> None:
    sources = [("a.toml", b"1"), ("b.toml", b"2")]
    assert rules_version(sources) == rules_version(reversed(sources))
    assert len({rules_version(sources), rules_version(sources[:1]), rules_version([("a.toml", b"12"), ("b.toml", b"")])}) == 3
    assert len(load_packs().rules_version) == 12


def test_days_and_instants() -> None:
    assert day_of(day_ms(date(2026, 3, 1))) == date(2026, 3, 1)
    assert day_of(day_ms(date(2026, 3, 1)) - 1) == date(2026, 2, 28)


# --- the validator --------------------------------------------------------------------------------------------------------

GOOD = """
code = "XX_LAW"
name = "A law"
jurisdiction_codes = ["NL"]
in_force_since = 2020-01-01
status_2026_11 = "in force"
citation = "Art 1"
confidence = "high"
[[example]]
name = "playback"
at = 2026-01-01T00:00:00Z
region = "NL"
"""


def faults(text: str, name: str = "xx_law.toml") -> list[str]:
    return [str(error).removeprefix(f"{name}: ") for error in validate_packs([(name, text.encode())])]


def test_a_good_pack_has_no_fault() -> None:
    assert faults(GOOD) == []


def test_not_toml() -> None:
    assert faults("code = ")[0].startswith("-: not TOML")
    assert "not TOML" in str(validate_packs([("x.toml", b"\xff")])[0])


def test_all_type_faults_of_all_packs_at_once() -> None:
    bad = GOOD.replace('confidence = "high"', 'confidence = "sure"\naccess_days = "thirty"\ncolour = "red"').replace(
        'citation = "Art 1"\n', ""
    )
    bad += '[[check]]\nkind = "opt-in"\narticle = "Art 1"\nseverity = "BAD"\n[[check]]\nkind = "magic"\narticle = ""\nseverity = "LOW"\n'
    errors = validate_packs([("xx_law.toml", bad.encode()), ("yy.toml", b"=")])
    assert {error.where for error in errors if error.file == "xx_law.toml"} == {
        "colour", "confidence", "access_days", "citation", "check[0]", "check[1]",
    }  # fmt: skip
    assert [error.where for error in errors if error.file == "yy.toml"] == ["-"]


def test_a_list_that_is_none() -> None:
    assert faults(GOOD.replace("[[example]]", "[example]"))[0].startswith("example: ")


@pytest.mark.parametrize(
    ("extra", "where"),
    [
        ("breach_authority_hours = 72", "breach_hours_apply_to_ott"),
        ("breach_authority_hours = 72", "breach_clock_start"),
        ("breach_authority_hours = 72", "breach_authority_term"),
        ('breach_authority_hours = 72\nbreach_authority_term = { amount = 72, unit = "days" }', "breach_authority_term"),
        ("access_days = 30", "access_term"),
        ('access_term = { amount = 1, unit = "calendar-months" }', "access_term"),
        ('access_days = 30\naccess_term = { amount = 72, unit = "hours" }', "access_term"),
        ('fine_rule = "dice"', "fine_rule"),
        ('fine_rule = "cap"\nfine_cap_amount = 5', "fine_cap_currency"),
        ("in_force_until = 2019-01-01", "in_force_until"),
        ("gpc_must_be_honoured = false\ngpc_since = 2025-01-01", "gpc_since"),
        ("gpc_must_be_honoured = true", "check"),
        ("age_by_country = { QQ = 13 }", "jurisdiction_codes"),
    ],
)
def test_facts_that_make_no_sense(extra: str, where: str) -> None:
    assert where in {fault.partition(":")[0] for fault in faults(GOOD.replace("[[example]]", f"{extra}\n[[example]]", 1))}


def test_code_name_and_citation() -> None:
    assert faults(GOOD, "other.toml")[0].startswith("code: ")
    assert faults(GOOD.replace('"Art 1"', '" "')) == ["citation: is empty"]
    twice = validate_packs([("xx_law.toml", GOOD.encode()), ("XX_LAW.toml", GOOD.encode())])
    assert any("same code" in error.message for error in twice)


@pytest.mark.parametrize(
    ("check", "where"),
    [
        ('kind = "opt-in"\narticle = ""\nseverity = "LOW"\npurposes = ["sale"]', "check[0].article"),
        ('kind = "opt-in"\narticle = "A"\nseverity = "UNKNOWN"\npurposes = ["sale"]', "check[0].severity"),
        ('kind = "opt-in"\narticle = "A"\nseverity = "LOW"\npurposes = ["fun"]', "check[0].purposes"),
        ('kind = "opt-in"\narticle = "A"\nseverity = "LOW"', "check[0].purposes"),
        ('kind = "opt-in"\narticle = "A"\nseverity = "LOW"\npurposes = ["service"]', "check[0].purposes"),
        ('kind = "opt-out"\narticle = "A"\nseverity = "LOW"\npurposes = ["sale"]\nrefusal_of = ["fun"]', "check[0].purposes"),
        (
            'kind = "opt-out"\narticle = "A"\nseverity = "LOW"\npurposes = ["sale"]\nsince = 2025-01-01\nuntil = 2024-01-01',
            "check[0].until",
        ),
        ('kind = "minor"\narticle = "A"\nseverity = "LOW"', "check[0].below_age"),
        ('kind = "minor"\narticle = "A"\nseverity = "LOW"\nfrom_age = 16\nbelow_age = 13', "check[0].below_age"),
        ('kind = "transfer"\narticle = "A"\nseverity = "LOW"\nadequate = ["QQ"]', "check[0].adequate"),
        ('kind = "minimisation"\narticle = "A"\nseverity = "LOW"\ncategories = ["shoes"]', "check[0].categories"),
        ('kind = "gpc"\narticle = "A"\nseverity = "LOW"\npurposes = ["sale"]', "check"),
        ('kind = "opt-in"\narticle = "A"\nseverity = "LOW"\npurposes = ["sale"]', "example"),
    ],
)
def test_checks_that_make_no_sense(check: str, where: str) -> None:
    assert where in {fault.partition(":")[0] for fault in faults(f"{GOOD}[[check]]\n{check}\n")}


def test_an_opt_in_law_speaks_of_unspecified_purposes() -> None:
    text = GOOD.replace("[[example]]", 'consent_model = "opt-in"\n[[example]]', 1)
    text += '[[check]]\nkind = "opt-in"\narticle = "A"\nseverity = "LOW"\npurposes = ["sale"]\n'
    assert "check: an opt-in law must say what an unspecified purpose is" in faults(text)


def test_examples_that_make_no_sense() -> None:
    second = '[[example]]\nname = "playback"\nat = 2026-01-01T00:00:00\nregion = "NL"\n'
    found = faults(GOOD + second)
    assert "example: two are called 'playback'" in found
    assert "example[1].at: a time without its zone" in found
    assert "example: no example of a lawful event" in faults(GOOD + 'breaks = ["x"]\n')


def test_changes_of_fields_that_are_none() -> None:
    assert faults(GOOD.replace("[[example]]", '[[earlier]]\nuntil = 2021-01-01\nunset = ["colour"]\n[[example]]', 1)) == [
        "earlier[0]: colour is no field"
    ]


def test_the_files_on_disk_are_what_is_validated() -> None:
    assert len(pack_sources()) == 41


# --- purposes -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("purpose", "event_type", "expected"),
    [
        (None, "PLAY", "service"),
        (None, "LOGIN_FAILED", "security"),
        (None, "DATA_ACCESS", "legal"),
        (None, "UNKNOWN", "unspecified"),
        ("", "PLAY", "service"),
        ("Personalization", "PLAY", "personalisation"),
        ("targeted-advertising", "PLAY", "targeted-advertising"),
        ("Targeted Advertising ", "PLAY", "targeted-advertising"),
        ("world peace", "PLAY", "unspecified"),
    ],
)
def test_purposes_are_resolved(purpose: str | None, event_type: str, expected: str) -> None:
    assert load_purposes().resolve(purpose, event_type) == expected  # type: ignore[arg-type]


def test_every_event_type_has_a_purpose() -> None:
    from schemas.records import EVENT_TYPES

    assert set(load_purposes().by_event) == set(EVENT_TYPES)


def test_one_spelling_has_one_purpose() -> None:
    entries = {"a": PurposeEntry(meaning="", aliases=("x",)), "b": PurposeEntry(meaning="", aliases=("x",))}
    with pytest.raises(ValueError, match="'x' belongs to both"):
        index_purposes(entries)
