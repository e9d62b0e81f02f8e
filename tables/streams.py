"""Which devices of a user play now: streams opened and kept alive by their events, closed by a stop, a pause or silence."""

from __future__ import annotations

from typing import Final

import msgspec

from schemas.records import Event

STREAM_CAP: Final = 12

BEAT_EVERY_S: Final = 300
"""Time between two signs of life of a stream until it has shown its own; the longest there is."""

BEATS_MISSED: Final = 2.2
"""A stream is over when it has been silent for this many of its beats."""

STREAMING: Final = frozenset({"PLAY", "HEARTBEAT", "SEEK"})
STREAM_ENDS: Final = frozenset({"STOP", "LOGOUT"})
WATCHING: Final = frozenset({"HEARTBEAT", "PAUSE", "STOP", "SEEK"})


class Stream(msgspec.Struct, array_like=True):
    """An open stream; a device plays one at a time.

    Attributes:
        device, network: fingerprints.
        place: where (see `tables.places`).
        session: the session's id as given, '' where none.
        started_s, beat_s: first and latest sign of life (Unix s).
        every_s: shortest time between two heartbeats so far, 30 to 300 s.
    """

    device: int
    network: int
    place: str
    session: str
    started_s: int
    beat_s: int
    every_s: int = BEAT_EVERY_S

    def alive(self, at_s: int) -> bool:
        """Whether it has missed fewer than `BEATS_MISSED` beats at `at_s` (Unix s)."""
        return at_s - self.beat_s <= BEATS_MISSED * self.every_s


def follow(streams: list[Stream], event: Event, device: int, network: int, place: str, at_s: int) -> int:
    """Takes an event up in a user's open streams (changed in place); returns the seconds of viewing it adds.

    Events must not be older than the ones before; `device` and `network` are fingerprints.
    """
    kind = event.event_type
    if kind not in STREAMING and kind not in WATCHING and kind not in STREAM_ENDS:
        return 0
    watched_s = 0
    mine = None
    for stream in streams:
        if stream.device == device:
            mine = stream
            break
    if mine is not None:
        if kind in WATCHING:
            watched_s = at_s - mine.beat_s if mine.alive(at_s) else 0
        if kind in STREAM_ENDS or kind == "PAUSE":
            streams.remove(mine)
            return watched_s
        if kind == "HEARTBEAT" and mine.alive(at_s):
            mine.every_s = max(30, min(mine.every_s, at_s - mine.beat_s))
        if not mine.alive(at_s) or event.session_id not in (None, mine.session):
            mine.started_s = at_s
            mine.session = event.session_id or ""
        mine.beat_s, mine.network, mine.place = at_s, network, place
    elif kind in STREAMING:
        if len(streams) >= STREAM_CAP:
            streams.remove(min(streams, key=lambda stream: stream.beat_s))
        streams.append(Stream(device, network, place, event.session_id or "", at_s, at_s))
    return watched_s
