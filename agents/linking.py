"""Linking: what the event shares with others, and the ring or attack its user is part of.

Two steps over one table (`tables.links.Links`, one record a user): `link_events` for the events, `learn_rings` for what the
ring analysis tells. Entities leave for the ring analysis (`agents.rings`) only at their first sight for a user and rarely
after, so that the side topic stays small.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Any, Final

from agents.step import Emit, Outputs, user_key
from rules.policy import LinkingPolicy, Policy, default_policy
from schemas.codec import Case
from schemas.records import EntitySighting, Event, Network, UserRing
from schemas.topics import ENTITIES_SEEN
from tables.entities import entity_key, entity_kind
from tables.links import Links, RingView, is_due, newer_view
from tables.seen import count_once

SECOND_MS: Final = 1000
IPV6_PREFIX: Final = 64
"""Bits of an IPv6 address that stand for one subscriber line (RFC 6177; the rest changes with every privacy address, RFC 8981)."""


def link_events(
    batch: Sequence[Case], state: Mapping[str, Links], now_ms: int, *, memory: Any = None, policy: Policy | None = None
) -> Outputs[Links]:
    """Adds to each case what its user shares with others (`Network`) and reports its entities for ring analysis.

    Args:
        batch: scored events in log order.
        state: what is remembered of a user, key `agents.step.user_key`.
        now_ms: processing time (Unix ms), stamped on the records.
        memory: not used.
        policy: when entities are reported; None: the policy that ships.

    Returns:
        The cases with `network`; sightings for `ENTITIES_SEEN`, keyed by tenant and entity; the changed states.
        Events that the state had seen are left out and counted as repeats.
    """
    policy = policy or default_policy()
    linking, attack_kinds = policy.linking, policy.sharing.attack.kinds
    attack_window_ms = policy.sharing.attack.window_s * SECOND_MS
    every_ms, failed_every_ms = linking.report_every_s * SECOND_MS, linking.report_failed_every_s * SECOND_MS
    max_reported = linking.max_reported
    users: dict[str, Links | None] = {}
    outputs: Outputs[Links] = Outputs(changes=users)
    for case in batch:
        event = case.event
        key = user_key(event.tenant_id, event.user_id)
        links = users.get(key)
        if links is None:
            links = users[key] = state.get(key) or Links()
        if not count_once(links.seen, event.origin):
            outputs.repeats += 1
            continue
        entities = entities_of(event, linking)
        failed = is_failure(event)
        at = event.timestamp
        for entity in entities:
            if failed:
                # A failed log-in makes nobody a sharer of the address it came from; it only counts against the address.
                due = entity_kind(entity) in attack_kinds and is_due(links.reported, "!" + entity, at, failed_every_ms, max_reported)
            else:
                due = is_due(links.reported, entity, at, every_ms, max_reported)
            if due:
                sighting = EntitySighting(entity=entity, tenant_id=event.tenant_id, user_id=event.user_id, seen_at=at, failed=failed)
                outputs.emits.append(Emit(ENTITIES_SEEN.name, entity_key(event.tenant_id, entity), sighting))
        ring = _ring_of(links, entities, at, attack_window_ms)
        if ring is None:
            network = Network(links=entities, linked_at=now_ms)
        else:
            network = Network(
                links=entities, ring_id=ring.ring_id, ring_size=ring.size, ring_risk=ring.risk, evidence=ring.evidence, linked_at=now_ms
            )
        outputs.cases.append(Case(event, case.compliance, case.score, network, parts=case.parts))
    return outputs


def learn_rings(
    batch: Sequence[UserRing], state: Mapping[str, Links], now_ms: int, *, memory: Any = None, policy: Policy | None = None
) -> Outputs[Links]:
    """Remembers for each user the ring, or the attack, that was told last by event time; of equal times the one told later.

    Args:
        batch: news of rings in log order.
        state: as of `link_events`.
        now_ms: not used.
        memory: not used.
        policy: how attacks are named; None: the policy that ships.

    Returns:
        The changed states; news older than what is known counts as a repeat.
    """
    prefix = (policy or default_policy()).sharing.attack.ring_prefix
    outputs: Outputs[Links] = Outputs()
    for told in batch:
        key = user_key(told.tenant_id, told.user_id)
        links = outputs.changes.get(key) or state.get(key) or Links()
        is_attack = told.ring_id.startswith(prefix)
        view = newer_view(links.attack if is_attack else links.ring, told)
        if view is None:
            outputs.repeats += 1
            continue
        if is_attack:
            links.attack = view
        else:
            links.ring = view
        outputs.changes[key] = links
    return outputs


def entities_of(event: Event, policy: LinkingPolicy) -> tuple[str, ...]:
    """What the event can be linked by, as `kind:value`: device, address (IPv6 by its /64), payment token, e-mail hash."""
    ignored = policy.ignored_values
    found = []
    device, payment, email = event.device_id, event.payment_token, event.email_hash
    if device.lower() not in ignored:
        found.append("device:" + device)
    address = _line_of(event.ip_address)
    if address not in ignored:
        found.append("ip:" + address)
    if payment is not None and payment.lower() not in ignored:
        found.append("payment:" + payment)
    if email is not None and (email := email.lower()) not in ignored:
        found.append("email:" + email)
    return tuple(found)


def is_failure(event: Event) -> bool:
    """Whether the event is a failed log-in or a refused payment."""
    kind = event.event_type
    return kind == "LOGIN_FAILED" or (event.error_code is not None and kind in ("LOGIN", "PAYMENT", "PURCHASE"))


@lru_cache(maxsize=65_536)
def _line_of(address: str) -> str:
    """The subscriber line of a canonical address: IPv4 as it is, IPv6 by its /64, empty where it is no address."""
    if ":" not in address:
        return address
    try:
        parsed = ip_address(address)
    except ValueError:
        return ""
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ip_network((parsed, IPV6_PREFIX), strict=False))


def _ring_of(links: Links, entities: tuple[str, ...], at_ms: int, attack_window_ms: int) -> RingView | None:
    """The ring that concerns this event: an attack only where the event comes from the attacked-from entity and soon enough."""
    ring = links.ring if links.ring is not None and links.ring.ring_id else None
    attack = links.attack
    if attack is None or abs(at_ms - attack.updated_at) > attack_window_ms or not any(one in entities for one in attack.evidence):
        return ring
    return attack if ring is None or attack.risk > ring.risk else ring
