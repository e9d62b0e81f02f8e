"""The laws side by side: the packs in force as a table, and the strictest of each requirement with its source."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import date
from typing import Any, Final

import msgspec

from rules.jurisdictions import GROUPS, US_TERRITORIES, canonical_code
from rules.packs import Pack, Packs

COLUMNS: Final = (
    "code", "name", "jurisdiction_codes", "in_force_since", "status_2026_11", "breach_hours_apply_to_ott", "consent_model", "legal_bases",
    "parental_consent_below_age", "breach_authority_hours", "breach_authority_basis", "breach_clock_start", "breach_authority_text",
    "breach_individuals", "access_days", "access_extension_days", "access_text", "erasure_right", "erasure_days", "erasure_text",
    "portability", "opt_out_sale_or_targeted_ads", "gpc_must_be_honoured", "cross_border", "max_fine_text", "fine_pct_turnover",
    "fine_pct_basis", "fine_cap_amount", "fine_cap_currency", "fine_rule", "retention_or_records", "citation", "confidence", "verified", "note",
)  # fmt: skip
"""The keys of a law in JSON. Numbers are numbers, yes and no are "y" and "n", what the law does not say is null."""

EXTRA: Final = ("jurisdictions", "gpc_since", "breach_authority_term", "access_term", "access_extension_term", "erasure_term")
"""Further keys: the codes as a list, the signal's first day, and the periods in the law's own words."""

_CONSENT_ORDER: Final = {"opt-in": 2, "mixed": 1, "opt-out": 0}


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """The strictest value of one requirement.

    Fields:
        value: the value; in the unit of the column.
        source: code of a law that sets it (the first of `sources`).
        sources: codes of all laws that set this very value, in alphabetical order.
        citation: where the first source says so.
        clock_start: what the hours run from (breach notice only).
        currency: currency of an amount; amounts of different currencies are not compared.
    """

    value: int | str
    source: str
    sources: tuple[str, ...]
    citation: str
    clock_start: str | None = None
    currency: str | None = None


class Strictest(msgspec.Struct, frozen=True, kw_only=True):
    """The strictest merge of several laws; None where none of them has the requirement.

    Breach hours leave out laws whose hours bind others than a streaming service (ePrivacy). They run from different clocks:
    `breach_authority_hours` is the fewest of all, `breach_authority_hours_by_clock` the fewest from each start.
    """

    breach_authority_hours: Source | None
    breach_authority_hours_by_clock: dict[str, Source]
    access_days: Source | None
    erasure_days: Source | None
    parental_consent_below_age: Source | None
    consent_model: Source | None
    erasure_right: Source | None
    gpc_must_be_honoured: Source | None
    fine_pct_turnover: Source | None
    fine_cap_amount: dict[str, Source]


class Row(msgspec.Struct, frozen=True):
    """One law as a line of the table for people; every cell is text."""

    code: str
    where: str
    since: str
    consent: str
    breach: str
    access: str
    erasure: str
    age: str
    gpc: str
    fine: str


class UnknownCode(msgspec.Struct, frozen=True):
    """The answer for a code that is neither a law's nor a place's of any pack."""

    code: str
    known: tuple[str, ...]


def select_packs(packs: Packs, at: date, for_code: str | None = None) -> tuple[Pack, ...] | UnknownCode:
    """The laws in force on a day, as they read on it.

    Args:
        packs: all laws.
        at: the day.
        for_code: a law's code; or a place, ISO 3166-1 or -2, `UK`, `EU` or `EEA`, and then all laws that hold there; None for all.

    Returns:
        The laws in order of their codes (none where the one asked for is not in force), or what codes there are.
    """
    in_force = packs.in_force(at)
    if for_code is None:
        return in_force
    wanted = canonical_code(for_code)
    if packs.find(wanted) is not None:
        return tuple(pack for pack in in_force if pack.code == wanted)
    if wanted not in GROUPS and len(wanted) != 2 and wanted[2:3] != "-":
        return UnknownCode(for_code, _codes(packs))
    places = GROUPS.get(wanted, frozenset({wanted, wanted[:2], *(("US",) if wanted in US_TERRITORIES else ())}))
    if not any(places.intersection(pack.jurisdiction_codes) or wanted in _countries(pack) for pack in packs.laws):
        return UnknownCode(for_code, _codes(packs))
    return tuple(pack for pack in in_force if places.intersection(pack.jurisdiction_codes))


def _codes(packs: Packs) -> tuple[str, ...]:
    return tuple(sorted({code for pack in packs.laws for code in (pack.code, *pack.jurisdiction_codes)}))


def _countries(pack: Pack) -> frozenset[str]:
    return frozenset(code[:2] for code in pack.jurisdiction_codes)


def merge_strictest(laws: Sequence[Pack]) -> Strictest:
    """The strictest of each requirement over `laws`, with the laws it comes from."""
    hours = [pack for pack in laws if pack.breach_hours_apply_to_ott]
    clocks = sorted({pack.breach_clock_start or "" for pack in hours})
    currencies = sorted({pack.fine_cap_currency for pack in laws if pack.fine_cap_currency})
    by_clock = {clock: _pick([p for p in hours if p.breach_clock_start == clock], "breach_authority_hours", min) for clock in clocks}
    by_currency = {one: _pick([p for p in laws if p.fine_cap_currency == one], "fine_cap_amount", max) for one in currencies}
    return Strictest(
        breach_authority_hours=_pick(hours, "breach_authority_hours", min),
        breach_authority_hours_by_clock={clock: found for clock, found in by_clock.items() if found},
        access_days=_pick(laws, "access_days", min),
        erasure_days=_pick(laws, "erasure_days", min),
        parental_consent_below_age=_pick(laws, "parental_consent_below_age", max),
        consent_model=_pick(laws, "consent_model", lambda values: max(values, key=_CONSENT_ORDER.__getitem__)),
        erasure_right=_pick(laws, "erasure_right", max),
        gpc_must_be_honoured=_pick(laws, "gpc_must_be_honoured", max),
        fine_pct_turnover=_pick(laws, "fine_pct_turnover", max),
        fine_cap_amount={currency: found for currency, found in by_currency.items() if found},
    )


def _pick(laws: Iterable[Pack], field: str, choose: Callable[[list[Any]], Any]) -> Source | None:
    having = [pack for pack in laws if getattr(pack, field) is not None]
    if not having:
        return None
    value = choose([getattr(pack, field) for pack in having])
    sources = [pack for pack in having if getattr(pack, field) == value]
    return Source(
        value=_yes_no(value),
        source=sources[0].code,
        sources=tuple(pack.code for pack in sources),
        citation=sources[0].citation,
        clock_start=sources[0].breach_clock_start if field == "breach_authority_hours" else None,
        currency=sources[0].fine_cap_currency if field == "fine_cap_amount" else None,
    )


def _yes_no(value: Any) -> Any:
    return {True: "y", False: "n"}[value] if isinstance(value, bool) else value


def _record(pack: Pack) -> dict[str, Any]:
    found: dict[str, Any] = {key: _yes_no(getattr(pack, key)) for key in COLUMNS}
    found["jurisdiction_codes"] = " ".join(pack.jurisdiction_codes)
    found["jurisdictions"] = list(pack.jurisdiction_codes)
    for key in EXTRA[1:]:
        found[key] = msgspec.to_builtins(getattr(pack, key))
    found["in_force_since"] = pack.in_force_since.isoformat()
    return found


def regulations_json(packs: Packs, at: date, for_code: str | None = None) -> dict[str, Any] | UnknownCode:
    """What `usher regulations --json` prints, ready for a JSON encoder.

    Args:
        packs: all laws.
        at: the day.
        for_code: as in `select_packs`.

    Returns:
        `at`, `for`, `rules_version`, `packs` (a list of laws with the keys `COLUMNS` and `EXTRA`) and `strictest` (see `Strictest`); or
        `UnknownCode`.
    """
    laws = select_packs(packs, at, for_code)
    if isinstance(laws, UnknownCode):
        return laws
    page = {
        "at": at.isoformat(),
        "for": for_code,
        "rules_version": packs.rules_version,
        "packs": [_record(pack) for pack in laws],
        "strictest": merge_strictest(laws),
    }
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(page))
    return plain


def regulations_table(laws: Sequence[Pack]) -> tuple[Row, ...]:
    """The laws as lines for people; what a law does not say is "-"."""
    return tuple(_row(pack) for pack in laws)


def _row(pack: Pack) -> Row:
    codes = pack.jurisdiction_codes
    where = " ".join(codes) if len(codes) <= 3 else f"{codes[0]} {codes[1]} … ({len(codes)})"
    hours = "-" if pack.breach_authority_hours is None else f"{pack.breach_authority_hours} h from {pack.breach_clock_start}"
    if pack.breach_hours_apply_to_ott is False:
        hours += " (not for streaming)"
    erasure = "no right" if pack.erasure_right is False else _or_dash(pack.erasure_days, " d")
    percent = "" if pack.fine_pct_turnover is None else f"{pack.fine_pct_turnover} %"
    cap = "" if pack.fine_cap_amount is None else f"{pack.fine_cap_currency or ''} {pack.fine_cap_amount:,}".strip()
    extension = "" if pack.access_extension_days is None else f"+{pack.access_extension_days}"
    return Row(
        code=pack.code,
        where=where,
        since=pack.in_force_since.isoformat(),
        consent=pack.consent_model or "-",
        breach=hours,
        access=_or_dash(pack.access_days, f"{extension} d"),
        erasure=erasure,
        age=_or_dash(pack.parental_consent_below_age, ""),
        gpc={True: "y", False: "n", None: "-"}[pack.gpc_must_be_honoured],
        fine=" / ".join(part for part in (percent, cap) if part) or "-",
    )


def _or_dash(number: int | None, unit: str) -> str:
    return "-" if number is None else f"{number}{unit}"
