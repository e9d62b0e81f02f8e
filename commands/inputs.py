"""Recorded JSON lines as inputs of a replay."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final

import msgspec

from rules.domain import parse_timestamp
from schemas.codec import Codec
from schemas.records import RawEvent
from schemas.topics import RAW
from simulator import Recorded, Unreadable, read_lines
from streams.replay import Input

Report = Callable[[Unreadable], None]
WHOLE_MAX_BYTES: Final = 64 << 20
"""A file that is one JSON document, and not lines, is read whole up to this size."""

YEAR_2000_MS: Final = 946_684_800_000
YEAR_10000_MS: Final = 253_402_300_800_000
"""Arrival times lie between these; no broker stamps others."""

_NOT_JSON: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def recorded_lines(lines: Iterable[bytes]) -> Iterator[bytes]:
    """One JSON object at a time from a recording: its lines, or the members of a file that is one array or one object.

    A file whose first line is no JSON by itself is held back, `WHOLE_MAX_BYTES` at the most, to see whether it is one document
    spread over lines. If it is not, or is larger, it is taken for lines after all and every one of them is given, so that the
    reader reports those it cannot read: nothing is left out here.
    """
    lines = iter(lines)
    for first in lines:
        if first.strip():
            break
        yield first  # an empty line: it counts, so that the numbers of the lines stay right
    else:
        return
    held = [first]
    if not _is_json(first) and first.lstrip()[:1] in (b"{", b"["):
        held_bytes = len(first)
        for line in lines:
            held.append(line)
            held_bytes += len(line)
            if held_bytes > WHOLE_MAX_BYTES:
                yield from held
                yield from lines
                return
    document = b"".join(held)
    if len(held) > 1 and _is_json(document):
        held = [document]
    if document.lstrip()[:1] == b"[" and len(held) == 1:
        held = _members(document)
    yield from held
    yield from lines


def _is_json(text: bytes) -> bool:
    try:
        msgspec.json.decode(text, type=msgspec.Raw)
    except _NOT_JSON:
        return False
    return True


def _members(array: bytes) -> list[bytes]:
    """The members of an array as they are written; the text itself where it is none."""
    try:
        return [bytes(one) for one in msgspec.json.decode(array, type=list[msgspec.Raw])]
    except _NOT_JSON:
        return [array]


def arrival_ms(event: RawEvent, before_ms: int) -> int:
    """When an event is taken to have arrived in a replay (Unix ms): at its own time, read as validation reads it.

    That makes a replay independent of the clock and of the machine's time zone. An event whose time cannot be read, or lies
    outside the years 2000 to 9999, arrives with the one before it; validation then refuses it for its time.
    """
    instant = parse_timestamp(event.timestamp)
    return instant.ms if instant is not None and YEAR_2000_MS <= instant.ms < YEAR_10000_MS else before_ms


def inputs_of(
    lines: Iterable[bytes | str], on_unreadable: Report, on_event: Callable[[Recorded], None] = lambda one: None
) -> Iterator[Input]:
    """Inputs for `streams.replay`, in file order.

    Args:
        on_unreadable: told of lines that are not events; they are left out.
        on_event: told of each event that is read, with its label where the recording has one.
    """
    encode = Codec().encode
    at_ms = 0
    for one in read_lines(lines):
        if isinstance(one, Unreadable):
            on_unreadable(one)
            continue
        on_event(one)
        at_ms = arrival_ms(one.event, at_ms)
        yield Input(RAW, one.event.user_id.encode() or None, encode(one.event), at_ms)
