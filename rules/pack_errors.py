"""Checks pack files and names every fault of every file at once."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

import msgspec

from rules.deadlines import Term
from rules.jurisdictions import GROUPS, known_codes
from rules.packs import AnyCheck, Disclosure, Earlier, Example, Minimisation, Minor, OptIn, OptOut, Pack, Signal, Transfer, pack_sources
from rules.purposes import UNSPECIFIED, load_purposes
from rules.signals import CATEGORIES

_PARTS: Final[dict[str, Any]] = {"check": AnyCheck, "example": Example, "earlier": Earlier}
_FINE_RULES: Final = ("higher_of", "lower_of", "either", "cap", "per_violation", "per_person_minimum", "percent", "national")
"""A fine rule begins with one of these; words after it explain it."""

_HOURS: Final = {"hours": 1, "days": 24, "business-days": 24}
_DAYS: Final = {"days": 1, "business-days": 1, "calendar-months": 30}


class PackError(NamedTuple):
    """A fault of a pack file. `where` is the key, e.g. `check[2].article`."""

    file: str
    where: str
    message: str

    def __str__(self) -> str:
        return f"{self.file}: {self.where}: {self.message}"


def validate_packs(sources: Iterable[tuple[str, bytes]] | None = None) -> list[PackError]:
    """All faults of all packs, by file; an empty list means that the packs can be loaded and make sense.

    Args:
        sources: name and content of each file; the packs of this installation where None.
    """
    errors: list[PackError] = []
    codes: dict[str, str] = {}
    for name, content in sorted(pack_sources() if sources is None else sources):
        found = list(validate_pack(name, content))
        code = name.removesuffix(".toml").upper()
        if code in codes:
            found.append(PackError(name, "code", f"{codes[code]} has the same code"))
        codes[code] = name
        errors.extend(found)
    return errors


def validate_pack(file: str, content: bytes) -> Iterator[PackError]:
    """All faults of one pack file: TOML syntax, then types field by field, then meaning where the types are right."""
    try:
        raw = tomllib.loads(content.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        yield PackError(file, "-", f"not TOML: {error}")
        return
    typed = list(_type_faults(file, raw))
    if typed:
        yield from typed
        return
    pack = msgspec.convert(raw, Pack)
    for where, message in _meaning_faults(file, pack):
        yield PackError(file, where, message)


def _type_faults(file: str, raw: dict[str, Any]) -> Iterator[PackError]:
    known = {field.name: field for field in msgspec.structs.fields(Pack)}
    for key in sorted(raw.keys() - known.keys()):
        yield PackError(file, key, "no such field")
    for key, field in known.items():
        if key not in raw:
            if field.required:
                yield PackError(file, key, "is missing")
            continue
        part = _PARTS.get(key)
        if part is not None and isinstance(raw[key], list):
            for number, item in enumerate(raw[key]):
                yield from _convert(file, f"{key}[{number}]", item, part)
        else:
            yield from _convert(file, key, raw[key], field.type)


def _convert(file: str, where: str, value: Any, kind: Any) -> Iterator[PackError]:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        yield PackError(file, where, str(error))


def _meaning_faults(file: str, pack: Pack) -> Iterator[tuple[str, str]]:
    if file != f"{pack.code.lower()}.toml":
        yield "code", f"the file of {pack.code} must be called {pack.code.lower()}.toml"
    if not pack.citation.strip():
        yield "citation", "is empty"
    for code in (*pack.jurisdiction_codes, *pack.age_by_country):
        if code not in known_codes():
            yield "jurisdiction_codes", f"{code} is not an ISO 3166 code"
    if pack.in_force_until is not None and pack.in_force_until <= pack.in_force_since:
        yield "in_force_until", "lies before in_force_since"
    if (pack.breach_authority_hours is None) != (pack.breach_hours_apply_to_ott is None):
        yield "breach_hours_apply_to_ott", "must be there exactly where there are breach_authority_hours"
    if pack.breach_authority_hours is not None and not pack.breach_clock_start:
        yield "breach_clock_start", "hours without the start of their clock"
    yield from _term_faults("breach_authority_term", pack.breach_authority_term, pack.breach_authority_hours, _HOURS)
    for name in ("access", "access_extension", "erasure"):
        yield from _term_faults(f"{name}_term", getattr(pack, f"{name}_term"), getattr(pack, f"{name}_days"), _DAYS)
    if pack.fine_rule is not None and not pack.fine_rule.startswith(_FINE_RULES):
        yield "fine_rule", f"{pack.fine_rule!r} is not known"
    if pack.fine_cap_amount is not None and pack.fine_rule is not None and pack.fine_cap_currency is None:
        yield "fine_cap_currency", "an amount without its currency"
    if pack.gpc_must_be_honoured is False and pack.gpc_since is not None:
        yield "gpc_since", "a date for a signal that need not be honoured"
    if any(isinstance(check, Signal) for check in pack.check) != (pack.gpc_must_be_honoured is True):
        yield "check", "a gpc check must be there exactly where gpc_must_be_honoured is true"
    opt_in = [check for check in pack.check if isinstance(check, OptIn)]
    if pack.consent_model == "opt-in" and opt_in and not any(UNSPECIFIED in check.purposes for check in opt_in):
        yield "check", "an opt-in law must say what an unspecified purpose is"
    for number, check in enumerate(pack.check):
        for key, message in _check_faults(pack, check):
            yield f"check[{number}].{key}", message
    fields = {field.name for field in msgspec.structs.fields(Pack)}
    for number, earlier in enumerate(pack.earlier):
        for key in (*earlier.facts, *earlier.unset):
            if key not in fields:
                yield f"earlier[{number}]", f"{key} is no field"
    yield from _example_faults(pack)


def _term_faults(where: str, term: Term | None, number: int | None, units: dict[str, int]) -> Iterator[tuple[str, str]]:
    if (term is None) != (number is None):
        yield where, "the number and its term must both be there, or neither"
    elif term is not None and number is not None and (term.unit not in units or term.amount * units[term.unit] != number):
        yield where, f"{term.amount} {term.unit} is not {number} in the table's unit"


def _check_faults(pack: Pack, check: AnyCheck) -> Iterator[tuple[str, str]]:
    purposes = load_purposes().entries
    if not check.article.strip():
        yield "article", "is empty"
    if check.severity == "UNKNOWN":
        yield "severity", "UNKNOWN is no severity"
    for purpose in (*check.purposes, *(check.refusal_of if isinstance(check, OptOut) else ())):
        if purpose not in purposes:
            yield "purposes", f"{purpose!r} is not in purposes.toml"
    if isinstance(check, OptIn | OptOut | Signal | Disclosure):
        if not check.purposes:
            yield "purposes", "is empty"
        for purpose in check.purposes:
            if purpose in purposes and purposes[purpose].necessary:
                yield "purposes", f"{purpose} rests on no consent"
    if check.since and check.until and check.until <= check.since:
        yield "until", "lies before since"
    if isinstance(check, Minor):
        limit = check.below_age if check.below_age is not None else pack.parental_consent_below_age
        if limit is None:
            yield "below_age", "neither the check nor the law names an age"
        elif not 0 <= check.from_age < limit <= 21:
            yield "below_age", f"{check.from_age} to {limit} is no range of ages"
    if isinstance(check, Transfer):
        for code in check.adequate:
            if code not in known_codes() and code not in GROUPS:
                yield "adequate", f"{code} is neither ISO 3166-1 nor a group"
    if isinstance(check, Minimisation):
        for category in check.categories:
            if category not in CATEGORIES.values():
                yield "categories", f"{category!r} is not a category of rules.signals"


def _example_faults(pack: Pack) -> Iterator[tuple[str, str]]:
    if not any(not example.breaks for example in pack.example):
        yield "example", "no example of a lawful event"
    if pack.check and not any(example.breaks for example in pack.example):
        yield "example", "no example of a breach"
    names = [example.name for example in pack.example]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield "example", f"two are called {name!r}"
    for number, example in enumerate(pack.example):
        moments = [("at", example.at), *((f"consents[{i}].at", one.at) for i, one in enumerate(example.consents))]
        for key, moment in moments:
            if moment.tzinfo is None:
                yield f"example[{number}].{key}", "a time without its zone"
