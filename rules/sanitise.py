"""Text made fit to be stored and compared: no control characters, one Unicode form, bounded length.

Nothing here escapes for HTML or SQL: escaping belongs to the place that writes HTML or SQL, and an escaped id no longer
equals itself in another system.
"""

from __future__ import annotations

import unicodedata
from typing import NamedTuple

import orjson

JsonValue = dict[str, "JsonValue"] | list["JsonValue"] | str | int | float | bool | None

_HARMFUL_CATEGORIES = frozenset({"Cc", "Cs"})
"""Unicode general categories that have no place in stored text: control characters and lone surrogates."""

_BIDI_CONTROLS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Explicit direction marks: they make shown text differ from compared text (Unicode Technical Report 36, section 2.5)."""


class Cleaned(NamedTuple):
    """Sanitised text. `changed`: characters were removed; `truncated`: it was longer than allowed."""

    text: str
    changed: bool
    truncated: bool


def has_controls(text: str) -> bool:
    """Whether `text` holds control characters, direction marks or lone surrogates. Line breaks and tabs are control characters."""
    return not text.isprintable() and any(unicodedata.category(c) in _HARMFUL_CATEGORIES or c in _BIDI_CONTROLS for c in text)


def normal_form(text: str) -> str:
    """Unicode NFC (Unicode Standard Annex 15), so that equal-looking text is equal text."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def clean_text(text: str, max_chars: int) -> Cleaned:
    """Free text without control characters, in NFC, trimmed, at most `max_chars` characters (at least 1).

    Line breaks and tabs become one space each, so that words stay apart; the other control characters vanish.
    """
    found = text
    if not text.isprintable():
        spaced = text.translate(_BREAKS)
        found = "".join(c for c in spaced if not (unicodedata.category(c) in _HARMFUL_CATEGORIES or c in _BIDI_CONTROLS))
    changed = found is not text and found != text
    found = normal_form(found).strip()
    if len(found) > max_chars:
        return Cleaned(found[:max_chars].rstrip(), changed, True)
    return Cleaned(found, changed, False)


_BREAKS = str.maketrans({"\t": " ", "\n": " ", "\r": " "})


def clean_json(value: JsonValue) -> JsonValue:
    """`value` with every string in it, keys included, sanitised like free text but not shortened. Depth must be bounded before.

    Two keys that become equal by it: the later one wins, as in JSON itself.
    """
    if isinstance(value, str):
        return clean_text(value, len(value) or 1).text
    if isinstance(value, dict):
        return {clean_text(key, len(key) or 1).text: clean_json(item) for key, item in value.items()}
    if isinstance(value, list):
        return [clean_json(item) for item in value]
    return value


def may_hold_controls(json_text: str) -> bool:
    """Whether strings of a valid JSON text can need cleaning: only escapes and non-ASCII characters can bring something in."""
    return not json_text.isascii() or "\\" in json_text


def dump_json(value: JsonValue) -> str:
    """Compact JSON text; members stay in their order."""
    return orjson.dumps(value).decode()
