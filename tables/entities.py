"""What the ring analysis remembers of an entity (a device, an address, a payment token, an e-mail): who was seen with it.

Both maps are merge-safe: they hold the users with the newest last sighting, within a window that ends at the latest one. Taking the largest elements of a set of (user, latest time) is commutative, associative and idempotent, so that repeats
and reordering of sightings leave the same state (a join-semilattice; Shapiro et al., "Conflict-free Replicated Data Types", 2011).
"""

from __future__ import annotations

import hashlib

import msgspec


class EntityUsers(msgspec.Struct, array_like=True):
    """The state of one entity, key `entity_key`.

    Attributes:
        users: event time (Unix ms) of a user's latest sighting, by user id; bounded.
        failed: the same for failed log-ins; bounded.
        latest: event time of the latest sighting that was no failure: each map has its own clock, or it would depend on their mixture.
        failed_latest: event time of the latest failure.
        told_at: `latest` when the entity was last told to be shared; None when it is not held to be shared.
    """

    users: dict[str, int] = {}
    failed: dict[str, int] = {}
    latest: int = 0
    failed_latest: int = 0
    told_at: int | None = None


class SharedLink(msgspec.Struct, array_like=True, frozen=True):
    """A shared entity as the ring graph keeps it, key `entity_key`.

    Attributes:
        tenant_id: tenant.
        entity: kind:value.
        users: who shares it, sorted; empty once it no longer connects.
        user_count: how many share it, also where they are not named.
        weight: strength in [0, 1].
        seen_at: event time (Unix ms) of the latest sighting.
        ringed_at: event time when it first held a ring together, None before; of a ring's links the one ringed first names it.
    """

    tenant_id: str
    entity: str
    users: tuple[str, ...]
    user_count: int
    weight: float
    seen_at: int
    ringed_at: int | None = None


def entity_key(tenant_id: str, entity: str) -> str:
    """Kafka and state key of an entity: tenants never share links, even where both saw the same address."""
    return f"{tenant_id}\x1f{entity}"


def entity_kind(entity: str) -> str:
    """The kind of an entity `kind:value`."""
    return entity.partition(":")[0]


def stable_id(*parts: object) -> str:
    """An id of 32 hex digits that the same parts always give (BLAKE2b, RFC 7693)."""
    return hashlib.blake2b("\x1f".join(map(str, parts)).encode(), digest_size=16).hexdigest()


def note_sighting(users: dict[str, int], user_id: str, seen_at: int, latest: int, window_ms: int, max_users: int) -> bool:
    """Notes that a user was seen and forgets who is out of the window. Changes `users`.

    Args:
        users: latest sighting by user id.
        user_id: who was seen.
        seen_at: event time (Unix ms).
        latest: latest sighting of any of them, this one included.
        window_ms: a user seen longer before `latest` is forgotten.
        max_users: of more users those seen last are kept, of equal times those with the larger id.

    Returns:
        Whether the set of users is another one now.
    """
    known = users.get(user_id)
    start = latest - window_ms
    if known is not None and seen_at <= known:
        return _forget(users, start)
    changed = False
    if seen_at >= start:
        users[user_id] = seen_at
        changed = known is None
    changed = _forget(users, start) or changed
    if len(users) > max_users:
        dropped = min(users, key=lambda one: (users[one], one))
        del users[dropped]
        changed = dropped != user_id
    return changed


def _forget(users: dict[str, int], start: int) -> bool:
    gone = [user for user, at in users.items() if at < start]
    for user in gone:
        del users[user]
    return bool(gone)
