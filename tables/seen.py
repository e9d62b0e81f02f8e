"""Which events a key has already counted.

A stage may see an event again: after a crash between its outputs and its commit, or when the stage before it repeated
its outputs. Events of one user and one raw partition travel in log order, so the highest raw offset counted so far tells a
repeat, in one integer a raw partition.
"""

from __future__ import annotations

from schemas.records import Origin

Seen = dict[int, int]
"""Highest raw offset counted, by raw partition."""


def count_once(seen: Seen, origin: Origin) -> bool:
    """Notes the event as counted; False when it had been counted before. Changes `seen`."""
    if seen.get(origin.partition, -1) >= origin.offset:
        return False
    seen[origin.partition] = origin.offset
    return True
