"""Purposes of processing: the closed vocabulary of `purposes.toml`, its other spellings, and each event type's default."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Final

import msgspec

from schemas.records import EventType

UNSPECIFIED: Final = "unspecified"


class PurposeEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One purpose of `purposes.toml`.

    Fields:
        meaning: what it covers, one sentence.
        necessary: whether it rests on contract, security or a legal duty and so never on consent.
        aliases: other spellings, in lower case with underscores.
        events: event types that have this purpose where the gateway names none.
    """

    meaning: str
    necessary: bool = False
    aliases: tuple[str, ...] = ()
    events: tuple[EventType, ...] = ()


class Purposes(msgspec.Struct, frozen=True):
    """The vocabulary, ready for look-up.

    Fields:
        entries: purposes by canonical name.
        canonical: canonical name by any known spelling.
        by_event: canonical name by event type.
    """

    entries: dict[str, PurposeEntry]
    canonical: dict[str, str]
    by_event: dict[str, str]

    def find(self, text: str) -> str | None:
        """Canonical name of a purpose as somebody wrote it, or None where the vocabulary does not know it."""
        found = self.canonical.get(text)
        if found is None:
            found = self.canonical.get(text.strip().lower().replace("-", "_").replace(" ", "_"))
        return found

    def resolve(self, purpose: str | None, event_type: EventType) -> str:
        """The purpose an event is judged under: its own, else its type's default; `unspecified` for one that is not known."""
        if purpose:
            return self.find(purpose) or UNSPECIFIED
        return self.by_event.get(event_type, UNSPECIFIED)


def index_purposes(entries: dict[str, PurposeEntry]) -> Purposes:
    """Builds the look-ups.

    Raises:
        ValueError: two purposes claim the same spelling or event type (a bug of the data file).
    """
    canonical: dict[str, str] = {}
    by_event: dict[str, str] = {}
    for name, entry in entries.items():
        for table, keys in ((canonical, {name, name.replace("-", "_"), *entry.aliases}), (by_event, set(entry.events))):
            for key in keys:
                if table.setdefault(key, name) != name:
                    raise ValueError(f"{key!r} belongs to both {table[key]!r} and {name!r}")
    return Purposes(entries, canonical, by_event)


@cache
def load_purposes() -> Purposes:
    """The vocabulary of `rules/purposes.toml`."""
    text = files("rules").joinpath("purposes.toml").read_bytes()
    return index_purposes(msgspec.toml.decode(text, type=dict[str, PurposeEntry]))
