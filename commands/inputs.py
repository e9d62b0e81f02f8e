"""Recorded JSON lines as inputs of a replay."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime

import msgspec

from schemas.codec import Codec
from schemas.records import RawEvent
from schemas.topics import RAW
from simulator import Recorded, Unreadable, read_lines
from streams.replay import Input

Report = Callable[[Unreadable], None]
WHOLE_MAX_BYTES = 64 << 20
"""A file that is one JSON document, and not lines, is read whole up to this size."""


def recorded_lines(lines: Iterator[bytes]) -> Iterator[bytes]:
    """Lines of a recording; a file that is one JSON object or an array of them, spread over lines, is taken apart.

    Which it is shows in the first line: in JSON lines that line is a whole object.
    """
    first = next((line for line in lines if line.strip()), None)
    if first is None:
        return
    if first.strip() in (b"{", b"[") or not _is_json(first):
        rest = b"".join(itertools.islice(lines, WHOLE_MAX_BYTES // 8))
        with contextlib.suppress(msgspec.DecodeError):
            document = msgspec.json.decode(first + rest)
            for one in document if isinstance(document, list) else [document]:
                yield msgspec.json.encode(one)
            return
        yield first
        yield from rest.splitlines()
        return
    yield first
    yield from lines


def _is_json(text: bytes) -> bool:
    try:
        msgspec.json.decode(text)
    except msgspec.DecodeError:
        return False
    return True


def arrival_ms(event: RawEvent, before_ms: int) -> int:
    """When an event is taken to have arrived in a replay: at its own time, which makes the replay independent of the clock.

    An event whose time cannot be read arrives with the one before it; validation then refuses it for its time.
    """
    moment = event.timestamp
    if isinstance(moment, int):
        return moment if 0 <= moment < 2**53 else before_ms
    try:
        return int(datetime.fromisoformat(moment).timestamp() * 1000)
    except (ValueError, OverflowError):
        return before_ms


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
