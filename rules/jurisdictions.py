"""Places: ISO 3166 codes, groups of countries, and which codes of an event count."""

from __future__ import annotations

from functools import cache
from typing import Final

import pycountry

EU: Final = frozenset({
    "AT", "BE", "BG", "HR", "CY", "CZ", "DK", "EE", "FI", "FR", "DE", "GR", "HU", "IE",
    "IT", "LV", "LT", "LU", "MT", "NL", "PL", "PT", "RO", "SK", "SI", "ES", "SE",
})  # fmt: skip
EEA_ONLY: Final = frozenset({"IS", "LI", "NO"})
EU_TERRITORIES: Final = frozenset({"AX", "GF", "GP", "MQ", "MF", "RE", "YT"})
"""Parts of Finland and France with country codes of their own, to which EU law applies (TFEU Art 355(1), (4))."""

GROUPS: Final[dict[str, frozenset[str]]] = {"EU": EU | EU_TERRITORIES, "EEA": EU | EEA_ONLY | EU_TERRITORIES}
ALIASES: Final[dict[str, str]] = {"UK": "GB", "EL": "GR"}
"""Codes reserved in ISO 3166-1 or used by the EU, and the official ones."""

US_TERRITORIES: Final = frozenset({"PR", "GU", "VI", "AS", "MP", "UM"})
"""United States federal law applies to them (48 USC); they have country codes of their own."""


def canonical_code(text: str) -> str:
    """A code in upper case, with aliases resolved (`uk` gives `GB`)."""
    code = text.strip().upper()
    return ALIASES.get(code, code)


@cache
def known_codes() -> frozenset[str]:
    """All ISO 3166-1 alpha-2 and ISO 3166-2 codes."""
    return frozenset(country.alpha_2 for country in pycountry.countries) | frozenset(part.code for part in pycountry.subdivisions)


def expand(codes: tuple[str, ...]) -> frozenset[str]:
    """Country codes with groups (`EU`, `EEA`) replaced by their members."""
    return frozenset().union(*(GROUPS.get(code, frozenset({code})) for code in codes))


def codes_of(region: str, subdivision: str | None, others: tuple[str, ...]) -> tuple[frozenset[str], bool]:
    """All codes whose laws may bind an event: its region and subdivision, and those of account, residence or address.

    Args:
        region: ISO 3166-1 alpha-2, or ISO 3166-2.
        subdivision: ISO 3166-2 or None.
        others: further codes of either kind.

    Returns:
        The known codes, countries of subdivisions included, and whether any given code is not known (`ZZ` is not).
    """
    found: set[str] = set()
    unknown = False
    for text in (region, *((subdivision,) if subdivision else ()), *others):
        code = canonical_code(text)
        if code not in known_codes():
            unknown = True
            code = code.partition("-")[0] if "-" in code else ""
            if code not in known_codes():
                continue
        found.add(code)
        found.add(code[:2])
        if code in US_TERRITORIES:
            found.add("US")
    return frozenset(found), unknown
