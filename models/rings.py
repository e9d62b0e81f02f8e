"""The ring graph of all tenants: what the second level of the ring analysis keeps in memory. What a ring is: `models.tenant_graph`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from models.tenant_graph import Ring, TenantGraph
from rules.policy import RingPolicy
from schemas.records import SharedEntity, UserRing
from tables.entities import SharedLink, entity_key


class Told(NamedTuple):
    """What a link's change leads to.

    `links` are the links to keep, by state key, None for those to forget; `rings` what users are to be told.
    """

    links: dict[str, SharedLink | None]
    rings: list[UserRing]


class RingGraph:
    """The suspicious part of the user graph, all tenants, kept incrementally. It is rebuilt from the keyed state of its stage.

    Args:
        policy: what a ring is.
        window_ms: how long a link holds without being seen, in event time.
    """

    def __init__(self, policy: RingPolicy, window_ms: int) -> None:
        self.policy = policy
        self.window_ms = window_ms
        self.tenants: dict[str, TenantGraph] = {}

    def restore(self, snapshot: bytes | None, items: Iterable[tuple[str, SharedLink]]) -> None:
        """Takes up the links of the keyed state. There are no snapshots: rings are a function of the links."""
        self.tenants = {}
        for _, link in items:
            self._tenant(link.tenant_id).put(link)
        for graph in self.tenants.values():
            graph.regroup(set(graph.proofs))

    def snapshot(self, leaving: bool = False) -> bytes | None:
        """None: the keyed state is enough."""
        return None

    def update(self, shared: SharedEntity) -> Told:
        """Takes up what was told of an entity. Older news than what is known changes nothing but the link's age.

        Returns:
            The links to keep or forget, and the users to be told of a ring they are in now, or not any more (empty id).
        """
        graph = self._tenant(shared.tenant_id)
        old = graph.links.get(shared.entity)
        link = SharedLink(
            tenant_id=shared.tenant_id,
            entity=shared.entity,
            users=tuple(sorted(set(shared.users))),
            user_count=shared.user_count,
            weight=round(shared.weight, 4),  # the wire holds 32-bit floats: the same figure with and without the wire between
            seen_at=shared.seen_at,
        )
        if link.seen_at < graph.clock - self.window_ms:
            return Told({}, [])
        if old is not None:
            link = _newest(old, link)
            if link == old:
                return Told({}, [])
        touched = graph.put(link)
        gone, untied = graph.expire()
        touched |= untied
        told, ringed = graph.regroup(touched) if touched else ([], [])
        links: dict[str, SharedLink | None] = {entity_key(shared.tenant_id, shared.entity): link}
        links.update((entity_key(shared.tenant_id, one.entity), one) for one in ringed)
        links.update((entity_key(shared.tenant_id, entity), None) for entity in gone)
        return Told(links, told)

    def rings(self) -> list[tuple[str, Ring]]:
        """Every ring with its tenant, by tenant and ring id."""
        found = {(tenant, ring.ring_id): ring for tenant, graph in self.tenants.items() for ring in graph.ring_of.values()}
        return [(tenant, ring) for (tenant, _), ring in sorted(found.items(), key=lambda item: item[0])]

    def _tenant(self, tenant_id: str) -> TenantGraph:
        graph = self.tenants.get(tenant_id)
        if graph is None:
            graph = self.tenants[tenant_id] = TenantGraph(tenant_id, self.policy, self.window_ms)
        return graph


def _newest(old: SharedLink, new: SharedLink) -> SharedLink:
    """The newest of two, with what the old one's ring was: repeats and reordering do no harm."""
    newest = max(old, new, key=lambda link: (link.seen_at, link.user_count, link.users, link.weight))
    return newest if newest is old else msgspec.structs.replace(new, ringed_at=old.ringed_at)
