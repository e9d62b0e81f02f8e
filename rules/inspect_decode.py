"""What a text reads as once the encodings an attacker may wrap it in are undone.

Percent encoding (also `%uXXXX` and overlong UTF-8), HTML entities, JavaScript and CSS escapes, Unicode compatibility forms
(`＜script＞`), `0x2e`-style bytes, several of them on top of each other. Every function is linear in the text's length.
"""

from __future__ import annotations

import html
import re
import unicodedata
from typing import Final

MAX_ROUNDS: Final = 4
"""How many layers of encoding are undone; every layer that changes something is read by itself."""

_PERCENT: Final = re.compile(r"%u([0-9a-fA-F]{4})|((?:%[0-9a-fA-F]{2})+)", re.ASCII)
_ESCAPE: Final = re.compile(r"\\u\{([0-9a-fA-F]{1,6})\}|\\u([0-9a-fA-F]{4})|\\x([0-9a-fA-F]{2})|\\([0-9a-fA-F]{2,6})[ ]?", re.ASCII)
_HEX_BYTE: Final = re.compile(r"0x(2e|2f|5c|25)", re.ASCII | re.IGNORECASE)
_OVERLONG: Final = re.compile(rb"[\xc0\xc1]([\x80-\xbf])|\xe0[\x80-\x9f]([\x80-\xbf])")
_INVISIBLE: Final = re.compile("[\x00-\x08\x0e-\x1f\x7f\xad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff]+")
_ENCODED: Final = re.compile(r"[%&\\]")


def readings(text: str) -> tuple[str, ...]:
    """The text and what it decodes to, layer by layer, without repeats: at least one, at most `MAX_ROUNDS` + 3 readings.

    The first is the text in compatibility form (NFKC) without invisible characters. Where `+` stands between the words of
    a text without blanks, as in a URL's form encoding, one more reading has blanks for it.
    """
    found = [_visible(text)]
    for _ in range(MAX_ROUNDS):
        if not _ENCODED.search(found[-1]):
            break
        decoded = _visible(_undo_one_layer(found[-1]))
        if decoded == found[-1]:
            break
        found.append(decoded)
    if _INVISIBLE.search(text):  # databases may take a NUL for a blank where browsers skip it
        found.append(_INVISIBLE.sub(" ", text))
    last = found[-1]
    if "+" in last and " " not in last:
        found.append(last.replace("+", " "))
    return tuple(found)


def path_view(text: str) -> str:
    """The text with every way to write a path separator or dot made one: backslashes and `0x2f` become `/`, `0x2e` a dot."""
    if "0x" in text or "0X" in text:
        text = _HEX_BYTE.sub(lambda found: chr(int(found[1], 16)), text)
    return text.translate(_SLASHES).lower()


def compact_views(text: str) -> tuple[str, ...]:
    """The text without white space and backslashes, in lower case, as browsers read a keyword; again without comments where it has any."""
    whole = _SKIPPED.sub("", text).lower()
    # Up to the last end of a comment every beginning has an end, so that no search runs to the end of the text in vain.
    end = max(text.rfind("*/") + 2, text.rfind("-->") + 3)
    if end <= 2:
        return (whole,)
    return whole, _SKIPPED.sub("", _COMMENT.sub("", text[:end]) + text[end:]).lower()


_COMMENT: Final = re.compile(r"/\*(?:[^*]|\*(?!/))*+(?:\*/|\Z)|<!--(?:[^-]|-(?!->))*+(?:-->|\Z)")
_SLASHES: Final = str.maketrans({"\\": "/", "\u2215": "/", "\u2044": "/", "\u2216": "/"})
_SKIPPED: Final = re.compile(r"[\s\\]+")


def _visible(text: str) -> str:
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    return text if text.isprintable() else _INVISIBLE.sub("", text)


def _undo_one_layer(text: str) -> str:
    if "%" in text:
        text = _PERCENT.sub(_from_percent, text)
    if "&" in text:
        text = html.unescape(text)
    if "\\" in text:
        text = _ESCAPE.sub(_from_escape, text)
    return text


def _from_percent(found: re.Match[str]) -> str:
    if found[1]:
        return chr(int(found[1], 16))
    data = bytes.fromhex(found[2].replace("%", ""))
    # Overlong forms (RFC 3629 section 3 forbids them) are how "/" and "." slip past decoders that do not check.
    data = _OVERLONG.sub(lambda pair: bytes([(pair[0][-2] & 0x03) << 6 | (pair[0][-1] & 0x3F)]), data)
    return data.decode("utf-8", "replace") if not data.isascii() else data.decode("ascii")


def _from_escape(found: re.Match[str]) -> str:
    code = int(found[1] or found[2] or found[3] or found[4], 16)
    return chr(code) if code <= 0x10FFFF and not 0xD800 <= code <= 0xDFFF else ""
