"""What linking remembers of a user: the ring the user is in, an attack the user is a victim of, and what was reported of the user.

The state of a user is bounded: one ring, one attack and at most `max_reported` entities with one time each.
"""

from __future__ import annotations

import msgspec

from schemas.records import UserRing
from tables.seen import Seen


class RingView(msgspec.Struct, array_like=True, frozen=True):
    """A ring as one of its members sees it.

    Attributes:
        ring_id: the ring; empty when the user is in none, which is kept because of its time.
        size: users in it.
        risk: in [0, 1], high is worse.
        evidence: the shared entities that hold it together.
        updated_at: event time (Unix ms) of what is known; the newest wins.
    """

    ring_id: str
    size: int
    risk: float
    evidence: tuple[str, ...]
    updated_at: int


class Links(msgspec.Struct, array_like=True):
    """The state of one user, key `agents.step.user_key`.

    Attributes:
        seen: which events were counted.
        reported: event time (Unix ms) of the last report, by entity; a failed log-in's entity is kept apart as `!entity`.
        ring: the ring the user belongs to.
        attack: the attack on many accounts of which this user's is one.
    """

    seen: Seen = {}
    reported: dict[str, int] = {}
    ring: RingView | None = None
    attack: RingView | None = None


def is_due(reported: dict[str, int], entity: str, at_ms: int, every_ms: int, max_reported: int) -> bool:
    """Whether an entity is to be reported now: at its first sight, then at most once in `every_ms` of event time.

    Notes the report. Beyond `max_reported` entities the one reported longest ago is forgotten; should it come back, it is
    reported once more, which does no harm. Changes `reported`.
    """
    last = reported.get(entity)
    if last is not None and at_ms - last < every_ms:
        return False
    if last is None and len(reported) >= max_reported:
        del reported[min(reported, key=lambda one: (reported[one], one))]
    reported[entity] = at_ms
    return True


def newer_view(known: RingView | None, told: UserRing) -> RingView | None:
    """The view that `told` gives, or None where what is known is newer. Of two views of one time the one told last wins."""
    if known is not None and known.updated_at > told.updated_at:
        return None
    return RingView(told.ring_id, told.size, told.risk, told.evidence, told.updated_at)
