"""Ring analysis, in two levels, so that it scales with partitions.

First level, keyed by entity: who shares a device, an address, a payment token or an e-mail, and from which address the log-ins
of many accounts fail. Second level, one partition: only what enough users share, as a graph (`models.rings`, `models.tenant_graph`).
Users are told of their ring on `USER_RINGS`, keyed like the events, so that linking reads it beside its own table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from agents.step import Emit, Outputs
from models.rings import RingGraph
from rules.policy import AttackPolicy, Policy, default_policy
from schemas.records import EntitySighting, SharedEntity, UserRing
from schemas.topics import ENTITIES_SHARED, USER_RINGS
from tables.entities import EntityUsers, SharedLink, entity_key, entity_kind, note_sighting, stable_id

SECOND_MS: Final = 1000


def watch_entities(
    batch: Sequence[EntitySighting], state: Mapping[str, EntityUsers], now_ms: int, *, memory: Any = None, policy: Policy | None = None
) -> Outputs[EntityUsers]:
    """Notes who is seen with an entity and tells on `ENTITIES_SHARED` when those who share it have changed.

    Failed log-ins make nobody a sharer. From `min_failed_users` accounts on whose log-ins fail at one address, while few others
    succeed there, each of these accounts is told on `USER_RINGS` that it is under attack, with the address as evidence.

    Args:
        batch: sightings in log order.
        state: what is remembered of an entity, key `tables.entities.entity_key`.
        now_ms: not used: entities live in event time.
        memory: not used.
        policy: thresholds and weights; None: the policy that ships.

    Returns:
        Shared entities, with weight 0 and no users once they connect nobody any more; the changed states.
    """
    policy = policy or default_policy()
    outputs: Outputs[EntityUsers] = Outputs()
    for sighting in batch:
        key = entity_key(sighting.tenant_id, sighting.entity)
        entity = outputs.changes.get(key) or state.get(key) or EntityUsers()
        outputs.changes[key] = entity
        if sighting.failed:
            outputs.emits += _watch_failures(entity, sighting, policy.sharing.attack)
        else:
            shared = _watch_sharers(entity, sighting, policy)
            if shared is not None:
                outputs.emits.append(Emit(ENTITIES_SHARED.name, key, shared))
    return outputs


def find_rings(
    batch: Sequence[SharedEntity], state: Mapping[str, SharedLink], now_ms: int, *, memory: RingGraph, policy: Policy | None = None
) -> Outputs[SharedLink]:
    """Keeps the graph of shared entities and tells each user on `USER_RINGS` when the ring it is in has changed.

    Args:
        batch: shared entities in log order.
        state: the graph's links, key `tables.entities.entity_key`; the memory holds them all, so nothing is looked up.
        now_ms: not used: links live in event time.
        memory: the graph; it changes.
        policy: not used: the graph has its own.

    Returns:
        Rings by user, with an empty ring id for those who left; the changed links. Old news counts as a repeat.
    """
    outputs: Outputs[SharedLink] = Outputs()
    for shared in batch:
        told = memory.update(shared)
        if not told.links:
            outputs.repeats += 1
        outputs.changes.update(told.links)
        outputs.emits += [Emit(USER_RINGS.name, ring.user_id, ring) for ring in told.rings]
    return outputs


def ring_graph(policy: Policy | None = None) -> RingGraph:
    """An empty graph as the second level's memory. A link outlives the window by one refresh, so that it holds while in use."""
    policy = policy or default_policy()
    return RingGraph(policy.rings, (policy.sharing.window_s + policy.sharing.refresh_s) * SECOND_MS)


def _watch_sharers(entity: EntityUsers, sighting: EntitySighting, policy: Policy) -> SharedEntity | None:
    kind = policy.sharing.kinds.get(entity_kind(sighting.entity))  # type: ignore[call-overload]
    if kind is None:
        return None
    floor = policy.rings.min_link_weight
    entity.latest = max(entity.latest, sighting.seen_at)
    changed = note_sighting(
        entity.users, sighting.user_id, sighting.seen_at, entity.latest, policy.sharing.window_s * SECOND_MS, kind.max_users
    )
    count = len(entity.users)
    weight = kind.weight_of(count)
    connects = weight >= floor
    if connects:
        refreshes = entity.told_at is None or entity.latest - entity.told_at >= policy.sharing.refresh_s * SECOND_MS
        if not (changed or refreshes):
            return None
        entity.told_at = entity.latest
    else:
        if entity.told_at is None:
            return None
        entity.told_at = None
    return SharedEntity(
        entity=sighting.entity,
        tenant_id=sighting.tenant_id,
        users=tuple(sorted(entity.users)) if connects else (),
        user_count=count,
        weight=weight if connects else 0.0,
        seen_at=entity.latest,
    )


def _watch_failures(entity: EntityUsers, sighting: EntitySighting, policy: AttackPolicy) -> list[Emit]:
    if entity_kind(sighting.entity) not in policy.kinds:
        return []
    entity.failed_latest = max(entity.failed_latest, sighting.seen_at)
    was_attack = bool(_victims(entity, policy))
    changed = note_sighting(
        entity.failed, sighting.user_id, sighting.seen_at, entity.failed_latest, policy.window_s * SECOND_MS, policy.max_failed_users
    )
    victims = _victims(entity, policy)
    if not victims or not changed:
        return []
    told = [sighting.user_id] if was_attack else victims
    ring_id = policy.ring_prefix + stable_id(sighting.tenant_id, sighting.entity)[:16]
    return [
        Emit(
            USER_RINGS.name,
            user,
            UserRing(
                user_id=user,
                tenant_id=sighting.tenant_id,
                ring_id=ring_id,
                size=len(victims),
                risk=policy.risk,
                members=(),
                evidence=(sighting.entity,),
                updated_at=entity.failed_latest,
            ),
        )
        for user in told
        if user in victims
    ]


def _victims(entity: EntityUsers, policy: AttackPolicy) -> list[str]:
    """Accounts whose log-ins only fail here, or none where that is no attack: too few, or too many others are at home here."""
    victims = sorted(entity.failed.keys() - entity.users.keys())
    if len(victims) < policy.min_failed_users or len(victims) < policy.min_failed_share * len(entity.failed.keys() | entity.users.keys()):
        return []
    return victims
