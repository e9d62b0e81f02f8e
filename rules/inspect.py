"""Inspects strings for attacks: SQL injection, script injection, path traversal, command injection.

A cheap gate passes over most clean text. What it stops is decoded layer by layer (`rules.inspect_decode`), and every reading is
matched against the patterns of `rules/inspection/*.toml`: as text, as a path, and as a stream of SQL tokens. All of it
takes time linear in the text. `docs/inspection.md` says how well it finds and what it misses.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Final, NamedTuple

import orjson

from rules.domain import nests_deeper_than
from rules.inspect_decode import compact_views, path_view, readings
from rules.inspect_patterns import KINDS, VIEWS, Context, Gate, Kind, Pattern, PatternSet, View, load_gate, load_patterns
from rules.inspect_sql import token_streams, without_parentheses
from schemas.records import RawEvent

MAX_CHARS: Final = 16_384
"""Characters of one text that are inspected; longer ones are inspected in overlapping pieces."""

_OVERLAP: Final = 1_024
_MAX_DEPTH: Final = 64
_MAX_CACHED_CHARS: Final = 512

_PATTERNS: Final = load_patterns()
_SETS: Final[dict[View, PatternSet]] = {view: PatternSet(tuple(one for one in _PATTERNS if one.over == view)) for view in VIEWS}
_GATE: Final = Gate(load_gate())


class Verdict(NamedTuple):
    """What a text is. `kinds` is empty for a clean one, `patterns` are the ids of what was found."""

    kinds: tuple[Kind, ...]
    patterns: tuple[str, ...] = ()

    @property
    def is_attack(self) -> bool:
        """Whether anything was found."""
        return bool(self.kinds)


class Finding(NamedTuple):
    """An attack in an event: the field (never its content) and the kind."""

    path: str
    kind: Kind


class LineVerdict(NamedTuple):
    """The answer of `usher inspect` for one line."""

    verdict: str
    """`clean` or `attack`."""
    kinds: tuple[Kind, ...]


CLEAN: Final = Verdict(())


def inspect(text: str, context: Context = "text") -> Verdict:
    """Judges one string.

    Args:
        text: any text, of any length; encoded forms are decoded here.
        context: what the string is; some patterns mean nothing in some contexts (`; id` in a user agent is Indonesian).
    """
    return _judge(text, context) if _GATE.passes(text) else CLEAN


def inspect_line(text: str) -> LineVerdict:
    """Judges one string as free text, for the command line."""
    kinds = inspect(text).kinds
    return LineVerdict("attack" if kinds else "clean", kinds)


def inspect_event(raw: RawEvent) -> tuple[Finding, ...]:
    """Judges every string of an event, keys and values of nested metadata included; at most one finding a field and kind."""
    found: list[Finding] = []
    agent = raw.user_agent
    if agent:
        kinds = _judge_agent(agent) if len(agent) <= _MAX_CACHED_CHARS else inspect(agent, "user_agent").kinds
        found.extend(Finding("user_agent", kind) for kind in kinds)
    # One pass over all short fields together: most events end here.
    if not _GATE.passes(_joined(raw)):
        return tuple(found)
    for name, context in _FIELDS:
        text = getattr(raw, name)
        if text and isinstance(text, str):
            found.extend(Finding(name, kind) for kind in inspect(text, _context_of(text, context)).kinds)
    if raw.extra_metadata and _GATE.passes(raw.extra_metadata):
        found.extend(_inspect_metadata(raw.extra_metadata))
    return tuple(dict.fromkeys(found))


_FIELDS: Final[tuple[tuple[str, Context], ...]] = (
    ("event_id", "id"),
    ("user_id", "id"),
    ("device_id", "id"),
    ("session_id", "id"),
    ("payment_token", "id"),
    ("email_hash", "id"),
    ("tenant_id", "id"),
    ("content_id", "text"),
    ("event_type", "text"),
    ("timestamp", "text"),
    ("region", "text"),
    ("ip_address", "text"),
    ("subscription_plan", "text"),
    ("error_code", "text"),
    ("purpose", "text"),
    ("consent_string", "text"),
)


def _joined(raw: RawEvent) -> str:
    timestamp = raw.timestamp
    return (
        f"{raw.event_id}\n{raw.user_id}\n{raw.device_id}\n{raw.content_id}\n{raw.event_type}\n{raw.region}\n{raw.ip_address}\n"
        f"{timestamp if isinstance(timestamp, str) else ''}\n{raw.subscription_plan or ''}\n{raw.error_code or ''}\n{raw.purpose or ''}\n"
        f"{raw.payment_token or ''}\n{raw.email_hash or ''}\n{raw.session_id or ''}\n{raw.consent_string or ''}\n{raw.tenant_id or ''}\n"
        f"{raw.extra_metadata or ''}"
    )


def _context_of(text: str, context: Context) -> Context:
    return "url" if context == "text" and text.startswith(("http://", "https://")) else context


@lru_cache(maxsize=8192)
def _judge_agent(text: str) -> tuple[Kind, ...]:
    # User agents repeat, and their brackets and semicolons always stop at the gate.
    return inspect(text, "user_agent").kinds


def _inspect_metadata(text: str) -> Iterator[Finding]:
    try:
        value = None if len(text) > MAX_CHARS or nests_deeper_than(text, _MAX_DEPTH) else orjson.loads(text)
    except (orjson.JSONDecodeError, UnicodeEncodeError):
        value = None
    if value is None:
        yield from (Finding("extra_metadata", kind) for kind in inspect(text).kinds)
        return
    waiting: list[tuple[str, object]] = [("extra_metadata", value)]
    while waiting:
        path, item = waiting.pop()
        if isinstance(item, str):
            yield from (Finding(path, kind) for kind in inspect(item, _context_of(item, "text")).kinds)
        elif isinstance(item, list):
            waiting.extend((f"{path}[{position}]", one) for position, one in reversed(list(enumerate(item))))
        elif isinstance(item, dict):
            for key, one in item.items():
                # A key may be the attack itself: only plain ones are named.
                name = f"{path}.{key}" if _PLAIN_KEY.fullmatch(key) else f"{path}.*"
                yield from (Finding(name, kind) for kind in inspect(key).kinds)
                waiting.append((name, one))


_PLAIN_KEY: Final = re.compile(r"[A-Za-z0-9_-]{1,40}", re.ASCII)


def _judge(text: str, context: Context) -> Verdict:
    found: dict[str, Pattern] = {}
    for start in range(0, max(1, len(text) - _OVERLAP), MAX_CHARS - _OVERLAP):
        for one in _search(text[start : start + MAX_CHARS]):
            if context in one.contexts:
                found[one.id] = one
    if not found:
        return CLEAN
    kinds = {one.kind for one in found.values()}
    return Verdict(tuple(kind for kind in KINDS if kind in kinds), tuple(sorted(found)))


def _search(text: str) -> Iterator[Pattern]:
    yield from _SETS["raw"].find(text)
    for reading in readings(text):
        lowered = reading.lower()
        yield from _SETS["text"].find(lowered)
        for view in compact_views(reading):
            yield from _SETS["compact"].find(view)
        yield from _SETS["path"].find(path_view(reading))
        for stream in token_streams(lowered):
            yield from _SETS["tokens"].find(stream)
            yield from _SETS["flat"].find(without_parentheses(stream))
