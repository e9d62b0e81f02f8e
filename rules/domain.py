"""What the fields of an event may hold: event types, times, countries, addresses, JSON metadata.

Every function reads one raw value and gives its normal form, or None where the value is none. Nothing here knows bounds
that an operator may set: those are `agents.validation.ValidationPolicy`.
"""

from __future__ import annotations

import ipaddress
import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final, NamedTuple

import pycountry

from rules.jurisdictions import ALIASES, GROUPS
from schemas.records import EVENT_TYPES, EventType

# --- event type -------------------------------------------------------------------------------------------------------

_TYPES: Final[dict[str, EventType]] = {spelt: one for one in EVENT_TYPES if one != "UNKNOWN" for spelt in (one, one.lower())}


def parse_event_type(text: str) -> EventType | None:
    """The event type in any case, with `-` or a blank for `_`; None when this version does not know it."""
    return _TYPES.get(text) or _TYPES.get(text.strip().upper().replace("-", "_").replace(" ", "_"))


# --- time -------------------------------------------------------------------------------------------------------------


class Instant(NamedTuple):
    """A point in time, milliseconds since the Unix epoch, and the code of what had to be guessed to read it (or None)."""

    ms: int
    warning: str | None = None


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_NUMBER: Final = re.compile(r"[+-]?[0-9]{1,19}(?:\.[0-9]{1,9})?", re.ASCII)
_ISO_CHARACTERS: Final = re.compile(r"[0-9TWZ:.,+ -]+", re.ASCII)
_LEAP_SECOND: Final = re.compile(r"(:[0-5][0-9]):60|(T[0-9]{2}[0-5][0-9])60", re.ASCII)
_SECONDS: Final = range(900_000_000, 5_000_000_000)
_MICROS: Final = range(900_000_000_000_000, 5_000_000_000_000_000)
_NANOS: Final = range(900_000_000_000_000_000, 5_000_000_000_000_000_000)


def parse_timestamp(value: int | str) -> Instant | None:
    """An instant from a number or a text; None when it is neither a number nor ISO 8601.

    Numbers are milliseconds since the epoch, the schema's unit. Numbers that would lie in 1998–2128 as seconds,
    microseconds or nanoseconds are read as those (warning `timestamp-unit`): the four ranges do not overlap with
    milliseconds of the same years. Text is such a number (a fraction only with seconds) or ISO 8601 (RFC 3339 included):
    extended or basic, calendar or week dates, `Z` or an offset, in any case, fractions of a second cut to
    milliseconds, a leap second read as the first instant of the next minute. Text without an offset is UTC (warning `timestamp-no-offset`).
    """
    if isinstance(value, int):
        return _from_number(value)
    text = value.strip()
    if not text.isascii() or len(text) > 64:
        return None
    if _NUMBER.fullmatch(text):
        whole, _, fraction = text.partition(".")
        if not fraction:
            return _from_number(int(whole))
        seconds = int(whole)
        return Instant(seconds * 1000 + int(fraction[:3].ljust(3, "0")), "timestamp-unit") if seconds in _SECONDS else None
    text = text.upper()
    return _from_iso(text) if _ISO_CHARACTERS.fullmatch(text) else None  # Python would take any character for the T


def _from_number(number: int) -> Instant:
    if number in _SECONDS:
        return Instant(number * 1000, "timestamp-unit")
    if number in _MICROS:
        return Instant(number // 1000, "timestamp-unit")
    if number in _NANOS:
        return Instant(number // 1_000_000, "timestamp-unit")
    return Instant(number)


def _from_iso(text: str) -> Instant | None:
    added_ms = 0
    if "60" in text:
        text, leaps = _LEAP_SECOND.subn(lambda found: (found[1] + ":59") if found[1] else (found[2] + "59"), text, count=1)
        added_ms = 1000 * leaps
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    warning = None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
        warning = "timestamp-no-offset"
    if added_ms:
        moment = moment.replace(microsecond=0)
    past = moment - _EPOCH
    return Instant((past.days * 86_400 + past.seconds) * 1000 + past.microseconds // 1000 + added_ms, warning)


# --- country ----------------------------------------------------------------------------------------------------------

UNKNOWN_REGION: Final = "ZZ"

_EEA: Final = GROUPS["EEA"]
"""Where the GDPR applies by itself: the EU and, by EEA Joint Committee Decision 154/2018, Iceland, Liechtenstein and Norway."""

_UNKNOWNS: Final = frozenset({"", "ZZ", "XX", "T1", "A1", "A2", "AP", "O1", "UNKNOWN", "NONE", "NULL", "N/A"})
"""What gateways and GeoIP databases write when they do not know the country (A1 proxy, A2 satellite, T1 Tor, AP and O1 regions)."""


class Place(NamedTuple):
    """A country by ISO 3166-1 alpha-2 ('ZZ' unknown), a subdivision by ISO 3166-2 or None, EEA membership, and warning codes."""

    region: str
    subdivision: str | None
    is_eea: bool
    warnings: tuple[str, ...] = ()


def _known_places() -> dict[str, Place]:
    countries = {one.alpha_2 for one in pycountry.countries} | {"XK"}  # XK: user-assigned, Kosovo, as the EU and banks write it
    known = {code: Place(code, None, code in _EEA) for code in countries}
    for one in pycountry.subdivisions:
        code = one.code
        known[code] = Place(code[:2], code, code[:2] in _EEA)
    for one in pycountry.countries:
        known[one.alpha_3] = Place(one.alpha_2, None, one.alpha_2 in _EEA, ("region-alias",))
    for code in _UNKNOWNS:
        known[code] = Place(UNKNOWN_REGION, None, False, ("region-unknown",))
    # The claim "somewhere in the Union" names no country, but it is enough to know that Union law applies.
    for code in ("EU", "EEA"):
        known[code] = Place(UNKNOWN_REGION, None, True, ("region-unknown",))
    return known


_PLACES: Final = _known_places()
NOWHERE: Final = Place(UNKNOWN_REGION, None, False)


def parse_region(text: str) -> Place | None:
    """The place a gateway claims; None for text that is no code (a country's name, a code nobody assigned).

    Taken: ISO 3166-1 alpha-2 and alpha-3 and ISO 3166-2 in any case, `_` for `-`, UK for GB and EL for GR. A subdivision
    that its country does not have is dropped (warning `subdivision-unknown`); `EU` and `EEA` become ZZ with `is_eea` set;
    empty text and the codes that stand for "unknown" become ZZ (warning `region-unknown`).
    """
    found = _PLACES.get(text)
    return found if found is not None or len(text) > 20 else _parse_other_region(text)


@lru_cache(maxsize=4096)
def _parse_other_region(text: str) -> Place | None:
    code = text.strip().upper().replace("_", "-")
    found = _PLACES.get(code)
    if found is not None:
        return found
    country, _, rest = code.partition("-")
    alias = ALIASES.get(country)
    place = _PLACES.get(alias or country)
    if place is None or place.region == UNKNOWN_REGION or len(country) != 2:
        return None
    noted = ("region-alias",) if alias else ()
    if not rest:
        return place._replace(warnings=noted) if "-" not in code else None
    full = _PLACES.get(f"{place.region}-{rest}")
    if full is not None:
        return full._replace(warnings=noted)
    return place._replace(warnings=(*noted, "subdivision-unknown"))


# --- address ----------------------------------------------------------------------------------------------------------


class Address(NamedTuple):
    """An IP address in canonical text (RFC 5952 for IPv6), and whether it is globally reachable (IANA special-purpose registries)."""

    text: str
    is_global: bool


_MAX_IP_CHARS: Final = 48
"""An IPv6 address with an IPv4 tail has 45; longer text does not reach the cache."""


def parse_ip(text: str) -> Address | None:
    """An address from strict IPv4 or IPv6 text; None for everything else.

    An IPv4 address mapped into IPv6 (`::ffff:203.0.113.7`, RFC 4291 section 2.5.5.2) is unwrapped. Refused: zone ids, ports,
    lists, and octets with leading zeros, which some parsers read as octal (CVE-2021-29921).
    """
    return _parse_short_ip(text) if len(text) <= _MAX_IP_CHARS else None


@lru_cache(maxsize=65_536)
def _parse_short_ip(text: str) -> Address | None:
    if "%" in text:
        return None
    try:
        address = ipaddress.ip_address(text.strip())
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return Address(str(address), address.is_global and not address.is_multicast)


# --- metadata ---------------------------------------------------------------------------------------------------------

_JSON_MARKS: Final = re.compile(r'"(?:[^"\\]|\\.)*"?|[{\[]|[}\]]', re.DOTALL)


def nests_deeper_than(json_text: str, max_depth: int) -> bool:
    """Whether objects and arrays nest deeper than `max_depth`, found without parsing: linear, no recursion, any text."""
    if json_text.count("{") + json_text.count("[") <= max_depth:
        return False
    depth = 0
    for found in _JSON_MARKS.finditer(json_text):
        mark = json_text[found.start()]
        if mark in "{[":
            depth += 1
            if depth > max_depth:
                return True
        elif mark != '"':
            depth -= 1
    return False


def count_keys(value: object) -> int:
    """Keys of all objects within a JSON value. Depth must be bounded before."""
    if isinstance(value, dict):
        return len(value) + sum(count_keys(item) for item in value.values() if isinstance(item, dict | list))
    if isinstance(value, list):
        return sum(count_keys(item) for item in value if isinstance(item, dict | list))
    return 0
