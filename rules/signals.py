"""Privacy signals that gateways put into an event's metadata and consent string.

Known top-level metadata keys: `gpc` / `sec_gpc` (Global Privacy Control), `age`, `birth_year`, `age_band`, `profile_type`,
`guardian_consent`, `account_country`, `residence_country`, `ip_country`, `transfer_to` / `destination_country`,
`storage_country`, `transfer_safeguard`, `disclosed_to` / `third_party`, and the data categories of `CATEGORIES`.
"""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from rules.jurisdictions import canonical_code

CATEGORIES: Final[dict[str, str]] = {
    **dict.fromkeys(("latitude", "longitude", "lat", "lon", "lng", "gps", "precise_location", "geolocation"), "precise-location"),
    **dict.fromkeys(("email", "phone", "phone_number", "address", "postal_address", "full_name", "contacts"), "contact"),
    **dict.fromkeys(("passport", "passport_number", "national_id", "ssn", "cpf", "government_id"), "government-id"),
    **dict.fromkeys(("card_number", "pan", "cvv", "iban"), "payment-number"),
    **dict.fromkeys(
        ("health", "religion", "ethnicity", "sexual_orientation", "political_opinion", "biometrics", "voiceprint"), "sensitive"
    ),
}
"""Category of data by the metadata key that carries it."""

COUNTRY_KEYS: Final = ("account_country", "residence_country", "ip_country")
AGE_BANDS: Final[dict[str, tuple[int, int]]] = {
    "child": (0, 12), "kid": (0, 12), "kids": (0, 12), "children": (0, 12), "under_13": (0, 12), "0-12": (0, 12),
    "teen": (13, 17), "teenager": (13, 17), "13-15": (13, 15), "13-17": (13, 17), "16-17": (16, 17), "minor": (0, 17), "under_18": (0, 17),
}  # fmt: skip
"""Lowest and highest age of a band."""

_OTHER_KEYS: Final = (
    "gpc", "sec_gpc", "age", "birth_year", "age_band", "profile_type", "guardian_consent", "transfer_to", "destination_country",
    "storage_country", "transfer_safeguard", "disclosed_to", "third_party",
)  # fmt: skip
KNOWN_KEYS: Final = frozenset((*CATEGORIES, *COUNTRY_KEYS, *_OTHER_KEYS))
UNKNOWN_PLACE: Final = "ZZ"
_PLACE: Final = re.compile(r"[A-Z]{2}(-[A-Z0-9]{1,3})?$", re.ASCII)
_US_PRIVACY: Final = re.compile(r"^1[YN-][YN-][YN-]$", re.IGNORECASE)
_TRUE: Final = frozenset({"1", "true", "yes", "y", "on"})
_METADATA: Final = msgspec.json.Decoder(dict[str, Any])


class Signals(msgspec.Struct, frozen=True, kw_only=True):
    """What an event itself says that matters to privacy law.

    Fields:
        gpc: whether a Global Privacy Control signal was on.
        sale_refused: whether a US privacy string opts out of sale.
        string_unread: whether there is a consent string that this version cannot read; it neither grants nor refuses.
        age: lowest and highest age in whole years the viewer can have, None where unknown.
        guardian_consent: whether the gateway saw a parent's or guardian's consent.
        countries: further ISO 3166 codes: of account, residence, IP address.
        destination: ISO 3166 code of the place the data are sent to, `ZZ` where it is no code.
        storage: ISO 3166 code of the place the data are stored in, `ZZ` where it is no code.
        safeguard: safeguard of the transfer, e.g. scc, bcr, dpf.
        disclosed: whether a third party received the event.
        categories: categories of data that the metadata carry.
    """

    gpc: bool = False
    sale_refused: bool = False
    string_unread: bool = False
    age: tuple[int, int] | None = None
    guardian_consent: bool = False
    countries: tuple[str, ...] = ()
    destination: str | None = None
    storage: str | None = None
    safeguard: str | None = None
    disclosed: bool = False
    categories: tuple[str, ...] = ()


NO_SIGNALS: Final = Signals()


def _truthy(value: object) -> bool:
    return value is True or (isinstance(value, int | str) and str(value).strip().lower() in _TRUE)


def _place(value: object) -> str | None:
    """An ISO 3166 code as far as its form goes; `ZZ` for what has another form, None for nothing."""
    if value is None or value == "":
        return None
    code = canonical_code(value) if isinstance(value, str) else ""
    return code if _PLACE.match(code) else UNKNOWN_PLACE


def _whole(value: object) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    return int(value) if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 4 else None


def _age(found: dict[str, Any], year: int) -> tuple[int, int] | None:
    age = _whole(found.get("age"))
    if age is not None and 0 <= age <= 130:
        return age, age
    born = _whole(found.get("birth_year"))
    if born is not None and year - 130 <= born <= year:
        return age_from_birth_year(born, year)
    for key in ("age_band", "profile_type"):
        band = found.get(key)
        if isinstance(band, str) and (known := AGE_BANDS.get(band.strip().lower().replace(" ", "_"))):
            return known
    return None


def age_from_birth_year(birth_year: int, year: int) -> tuple[int, int]:
    """Lowest and highest age in `year` of a person born in `birth_year`: the birthday may be still to come."""
    return max(0, year - birth_year - 1), max(0, year - birth_year)


def read_signals(metadata: str | None, consent_string: str | None, year: int) -> Signals:
    """Reads the signals of an event.

    Args:
        metadata: text of a JSON object (validation has seen to that), or None; anything else counts as no metadata.
        consent_string: IAB US privacy string ("1YNN": third letter Y opts out of sale), or another one, which is not read.
        year: the event's year, for ages.

    Returns:
        `NO_SIGNALS` itself where there is none: the usual case costs one JSON decode.
    """
    found: dict[str, Any] = {}
    if metadata:
        try:
            found = _METADATA.decode(metadata)
        except (msgspec.DecodeError, RecursionError):
            found = {}
    if not consent_string and KNOWN_KEYS.isdisjoint(found):
        return NO_SIGNALS
    safeguard = found.get("transfer_safeguard")
    readable = bool(consent_string and _US_PRIVACY.match(consent_string))
    return Signals(
        gpc=_truthy(found.get("gpc")) or _truthy(found.get("sec_gpc")),
        sale_refused=bool(readable and consent_string and consent_string[2] in "Yy"),
        string_unread=bool(consent_string) and not readable,
        age=_age(found, year),
        guardian_consent=_truthy(found.get("guardian_consent")),
        countries=tuple(code for key in COUNTRY_KEYS if (code := _place(found.get(key)))),
        destination=_place(found.get("transfer_to")) or _place(found.get("destination_country")),
        storage=_place(found.get("storage_country")),
        safeguard=safeguard.strip().lower() if isinstance(safeguard, str) else None,
        disclosed=bool(found.get("disclosed_to") or found.get("third_party")),
        categories=tuple(sorted({category for key, category in CATEGORIES.items() if found.get(key) not in (None, "", False)})),
    )
