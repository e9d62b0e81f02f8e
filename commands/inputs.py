"""Recorded JSON lines as inputs of a replay."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime

from schemas.codec import Codec
from schemas.records import RawEvent
from schemas.topics import RAW
from simulator import Recorded, Unreadable, read_lines
from streams.replay import Input

Report = Callable[[Unreadable], None]


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
