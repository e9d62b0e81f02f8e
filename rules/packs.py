"""Regulation packs: one law a file in `rules/regulations/`, cited and dated.

A pack holds the law's facts (an absent fact means that the law gives none), the terms as the law words them, the checks
that events are held against, and examples that run as tests. How to write one: docs/how-to/add-a-law.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cache
from importlib.resources import files
from typing import Any, Final, Literal

import msgspec

from rules.deadlines import Term
from schemas.records import EventType, Severity

ConsentModel = Literal["opt-in", "opt-out", "mixed"]
Basis = Literal["statute", "regulation", "rules", "decree", "decision of the Board", "guideline", "none"]
DAY_MS: Final = 86_400_000


class _Data(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Read from TOML; a key that is not a field is an error."""


class Check(_Data, frozen=True, kw_only=True):
    """What all checks share.

    Fields:
        article: the provision it enforces.
        severity: how bad a breach is; where the person has said no it counts one grade worse.
        purposes: canonical purposes it is for; empty means all.
        since: first day it holds (UTC), the law's first day where absent.
        until: day from which it holds no more.
    """

    article: str
    severity: Severity
    purposes: tuple[str, ...] = ()
    since: date | None = None
    until: date | None = None


class OptIn(Check, frozen=True, tag="opt-in", tag_field="kind", kw_only=True):
    """Consent must be there. `separate`: consent for all purposes is not enough. `valid_months`: a consent lapses after that."""

    separate: bool = False
    valid_months: int | None = None


class OptOut(Check, frozen=True, tag="opt-out", tag_field="kind", kw_only=True):
    """A refusal must be heeded. `refusal_of`: further purposes whose refusal counts. `grace`: how long the law gives to comply."""

    refusal_of: tuple[str, ...] = ()
    grace: Term | None = None


class Signal(Check, frozen=True, tag="gpc", tag_field="kind", kw_only=True):
    """A browser's or device's opt-out signal (Global Privacy Control, US privacy string) must be heeded without a request."""


class Minor(Check, frozen=True, tag="minor", tag_field="kind", kw_only=True):
    """What holds for a known child or teenager.

    Fields:
        from_age: lowest age it is for.
        below_age: first age it is no more for; the law's age of consent (by country where it differs) where absent.
        requires: a guardian's consent, the minor's own consent, or nothing makes it lawful.
    """

    from_age: int = 0
    below_age: int | None = None
    requires: Literal["guardian-consent", "own-consent", "nothing"] = "guardian-consent"


class Transfer(Check, frozen=True, tag="transfer", tag_field="kind", kw_only=True):
    """Personal data that leave the country.

    Fields:
        adequate: countries (ISO 3166-1 alpha-2) and groups (`EEA`) that need no safeguard.
        safeguards: safeguards that the law accepts.
        consent: whether consent for the transfer can stand in for a safeguard, is asked beside it, or plays no part.
    """

    adequate: tuple[str, ...] = ()
    safeguards: tuple[str, ...] = ()
    consent: Literal["alternative", "required", "no"] = "no"


class Localisation(Check, frozen=True, tag="localisation", tag_field="kind", kw_only=True):
    """Data must be stored at home unless one of `safeguards` covers the copy abroad."""

    safeguards: tuple[str, ...] = ()


class Disclosure(Check, frozen=True, tag="disclosure", tag_field="kind", kw_only=True):
    """Telling a third party what a person watched needs consent, given at most `valid_months` before."""

    valid_months: int | None = None


class Minimisation(Check, frozen=True, tag="minimisation", tag_field="kind", kw_only=True):
    """Categories of data (see `rules.signals`) that an event for these purposes must not carry."""

    categories: tuple[str, ...]


AnyCheck = OptIn | OptOut | Signal | Minor | Transfer | Localisation | Disclosure | Minimisation


class ExampleConsent(_Data, frozen=True, kw_only=True):
    """A consent record of an example; fields as in `ott.ConsentRecord`."""

    purpose: str
    granted: bool
    at: datetime
    expires: datetime | None = None
    by_guardian: bool | None = None
    birth_year: int | None = None


class Example(_Data, frozen=True, kw_only=True):
    """An event and what this law says to it.

    Fields:
        name: what it shows.
        at: event time.
        region, subdivision, purpose, event_type, content_id, has_consent, consent_string, metadata: as in `ott.Event`.
        consents: consent records that stand in the ledger.
        applies: whether the law applies to the event.
        breaks: codes of the rules of this law that the event breaks, in order; empty is lawful.
    """

    name: str
    at: datetime
    region: str
    subdivision: str | None = None
    event_type: EventType = "PLAY"
    purpose: str | None = None
    content_id: str = "title"
    has_consent: bool = False
    consent_string: str | None = None
    metadata: dict[str, Any] = {}
    consents: tuple[ExampleConsent, ...] = ()
    applies: bool = True
    breaks: tuple[str, ...] = ()


class Earlier(_Data, frozen=True, kw_only=True):
    """Facts that held before a change of the law: before the day `until`, `facts` differed and `unset` were absent."""

    until: date
    facts: dict[str, Any] = {}
    unset: tuple[str, ...] = ()


class Pack(_Data, frozen=True, kw_only=True):
    """One law. Field names are the field's in the table of docs/regulations.md; None means that the law gives none.

    Numbers: `breach_authority_hours` in hours from `breach_clock_start`; `*_days` in days; ages in years; `fine_pct_turnover`
    in percent; `fine_cap_amount` in units of `fine_cap_currency`. `*_term` is the same period in the law's own words.
    `breach_hours_apply_to_ott` is False where the hours bind others than a streaming service, None where there are no hours.
    `age_by_country` overrides `parental_consent_below_age`. `gpc_since` is the first day on which the signal is mandatory.
    """

    code: str
    name: str
    jurisdiction_codes: tuple[str, ...]
    in_force_since: date
    in_force_until: date | None = None
    status_2026_11: str
    citation: str
    confidence: Literal["high", "medium", "low"]
    verified: str | None = None
    note: str | None = None
    consent_model: ConsentModel | None = None
    legal_bases: str | None = None
    parental_consent_below_age: int | None = None
    age_by_country: dict[str, int] = {}
    breach_authority_hours: int | None = None
    breach_authority_term: Term | None = None
    breach_authority_basis: Basis | None = None
    breach_clock_start: str | None = None
    breach_hours_apply_to_ott: bool | None = None
    breach_authority_text: str | None = None
    breach_individuals: str | None = None
    access_days: int | None = None
    access_extension_days: int | None = None
    access_term: Term | None = None
    access_extension_term: Term | None = None
    access_text: str | None = None
    erasure_right: bool | None = None
    erasure_days: int | None = None
    erasure_term: Term | None = None
    erasure_text: str | None = None
    portability: str | None = None
    opt_out_sale_or_targeted_ads: str | None = None
    gpc_must_be_honoured: bool | None = None
    gpc_since: date | None = None
    gpc_since_text: str | None = None
    cross_border: str | None = None
    max_fine_text: str | None = None
    fine_pct_turnover: int | None = None
    fine_pct_basis: str | None = None
    fine_cap_amount: int | None = None
    fine_cap_currency: str | None = None
    fine_rule: str | None = None
    retention_or_records: str | None = None
    weekend: tuple[int, ...] = (5, 6)
    earlier: tuple[Earlier, ...] = ()
    check: tuple[AnyCheck, ...] = ()
    example: tuple[Example, ...] = ()

    def in_force(self, at: date) -> bool:
        """Whether the law binds on the day `at`."""
        return self.in_force_since <= at and (self.in_force_until is None or at < self.in_force_until)

    def as_of(self, at: date) -> Pack:
        """The law as it read on the day `at`, as far as earlier readings are on record."""
        changes: dict[str, Any] = {}
        for one in sorted(self.earlier, key=lambda earlier: earlier.until, reverse=True):
            if at < one.until:
                changes.update(one.facts)
                changes.update(dict.fromkeys(one.unset))
        if self.gpc_since is not None and at < self.gpc_since:
            changes["gpc_must_be_honoured"] = False
        return msgspec.structs.replace(self, **changes) if changes else self


def day_ms(day: date) -> int:
    """The day's first instant, UTC, as Unix ms."""
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 1000


def day_of(at_ms: int) -> date:
    """The day (UTC) of an instant in Unix ms."""
    return date.fromordinal(date(1970, 1, 1).toordinal() + at_ms // DAY_MS)


@dataclass(frozen=True, slots=True, eq=False)
class Packs:
    """All laws, in order of their codes, and the version of the rules: a digest of the files' content. Equal only to itself."""

    laws: tuple[Pack, ...]
    rules_version: str

    def in_force(self, at: date) -> tuple[Pack, ...]:
        """The laws that bind on the day `at`, each as it read on that day."""
        return tuple(pack.as_of(at) for pack in self.laws if pack.in_force(at))

    def find(self, code: str) -> Pack | None:
        """The law with this code, or None."""
        return next((pack for pack in self.laws if pack.code == code), None)


def rules_version(sources: Iterable[tuple[str, bytes]]) -> str:
    """Twelve hexadecimal digits that change with any file's name or content (SHA-256)."""
    digest = hashlib.sha256()
    for name, content in sorted(sources):
        digest.update(f"{name}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()[:12]


def pack_sources() -> tuple[tuple[str, bytes], ...]:
    """Name and content of every pack file, by name."""
    folder = files("rules").joinpath("regulations")
    return tuple(sorted((file.name, file.read_bytes()) for file in folder.iterdir() if file.name.endswith(".toml")))


@cache
def load_packs() -> Packs:
    """All packs of `rules/regulations/`; the version covers the purposes, too.

    Raises:
        msgspec.ValidationError, tomllib.TOMLDecodeError: a pack is malformed; `rules.pack_errors.validate_packs` names every fault.
    """
    sources = pack_sources()
    laws = tuple(msgspec.toml.decode(content, type=Pack) for _, content in sources)
    purposes = files("rules").joinpath("purposes.toml").read_bytes()
    return Packs(tuple(sorted(laws, key=lambda pack: pack.code)), rules_version((*sources, ("purposes.toml", purposes))))
