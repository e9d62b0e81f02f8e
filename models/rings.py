"""Rings: users tied together by the devices, addresses, payment tokens and e-mails they share, directly or over others.

The graph is bipartite (users, shared entities) and holds only what enough users share. A ring is a connected component of at
least `min_users` users of whom at least `min_strong_share` hold proof, a strong link: an address alone ties a household, a
campus or a carrier's customers, so it connects but proves nothing.

Everything told of a ring is a function of the links present, not of the order in which they came:
- ring id: made from the component's oldest link (`since`, then name). A ring that grows adds younger links and keeps its id;
  of two rings that merge the older one's id stays.
- risk in [0, 1]: mean tie of its members x n / (n + size_half), n users. A member's tie is the noisy-or of its links' weights,
  1 - prod(1 - w) (Pearl, "Probabilistic Reasoning in Intelligent Systems", 1988, section 4.3.2).

A change of a link recomputes only the components that its users are in, each at most `max_users` users wide, so the cost does
not grow with history. A larger component is a crowd: its members are in no ring, it shows in the statistics.
Links not seen for `window_ms` before the tenant's latest sighting are dropped.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass, field
from math import prod
from typing import Final, NamedTuple

import msgspec

from rules.policy import RingPolicy
from schemas.records import SharedEntity, UserRing
from tables.entities import SharedLink, entity_key, stable_id

TOLD_EXACTLY: Final = 32
"""Up to this size every change of membership is told; larger rings are told when they have grown or shrunk by an eighth."""


@dataclass(frozen=True, slots=True)
class Ring:
    """A ring as it stands.

    Attributes:
        ring_id: stable while the ring grows.
        users: its members, sorted.
        evidence: the shared entities that hold it together, strongest first.
        risk: in [0, 1], high is worse.
    """

    ring_id: str
    users: tuple[str, ...]
    evidence: tuple[str, ...]
    risk: float

    @property
    def told(self) -> tuple[object, ...]:
        """What must change before the ring is told again."""
        size = len(self.users)
        return (
            self.ring_id,
            self.users if size <= TOLD_EXACTLY else size.bit_length() * 8 + (size >> (size.bit_length() - 4)),
            round(self.risk, 1),
        )


class Told(NamedTuple):
    """What a link's change leads to.

    `links` are the links to keep, by state key, None for those to forget; `rings` what users are to be told.
    """

    links: dict[str, SharedLink | None]
    rings: list[UserRing]


@dataclass(slots=True)
class TenantGraph:
    """The links of one tenant. Vertices are plain user ids and entities, as nothing crosses tenants."""

    tenant_id: str
    policy: RingPolicy
    window_ms: int
    links: dict[str, SharedLink] = field(default_factory=dict)
    entities_of: dict[str, set[str]] = field(default_factory=dict)
    ring_of: dict[str, Ring] = field(default_factory=dict)
    clock: int = 0
    ages: list[tuple[int, str]] = field(default_factory=list)
    """A heap of (time of a sighting, entity), one entry a link; a link may have been seen later than its entry says."""

    def connects(self, link: SharedLink) -> bool:
        """Whether a link ties its users together."""
        return link.weight >= self.policy.min_link_weight and len(link.users) > 1

    def put(self, link: SharedLink) -> set[str]:
        """Adds or replaces a link. Returns the users whose ties have changed."""
        old = self.links.get(link.entity)
        before = set(old.users) if old is not None and self.connects(old) else set()
        after = set(link.users) if self.connects(link) else set()
        self.links[link.entity] = link
        if old is None:
            heapq.heappush(self.ages, (link.seen_at, link.entity))
        for user in before - after:
            self._untie(user, link.entity)
        for user in after - before:
            self.entities_of.setdefault(user, set()).add(link.entity)
        if before == after and old is not None and old.weight == link.weight and old.since == link.since:
            return set()
        return before | after

    def expire(self) -> tuple[list[str], set[str]]:
        """Drops links that were not seen for the window, then the oldest ones over the bound. Returns them and the users they tied."""
        gone: list[str] = []
        touched: set[str] = set()
        start = self.clock - self.window_ms
        while self.ages and (self.ages[0][0] < start or len(self.links) > self.policy.max_links):
            known_at, entity = heapq.heappop(self.ages)
            link = self.links[entity]
            if link.seen_at > known_at:
                heapq.heappush(self.ages, (link.seen_at, entity))
                continue
            del self.links[entity]
            gone.append(entity)
            if self.connects(link):
                touched.update(link.users)
                for user in link.users:
                    self._untie(user, entity)
        return gone, touched

    def _untie(self, user: str, entity: str) -> None:
        entities = self.entities_of[user]
        entities.discard(entity)
        if not entities:
            del self.entities_of[user]

    def component(self, user: str) -> tuple[set[str], set[str], bool]:
        """Users and entities connected to `user`, and whether that is all of them: it stops beyond `max_users` users."""
        users, entities, waiting = {user}, set[str](), [user]
        while waiting:
            for entity in self.entities_of.get(waiting.pop(), ()):
                if entity in entities:
                    continue
                entities.add(entity)
                fresh = [other for other in self.links[entity].users if other not in users]
                users.update(fresh)
                if len(users) > self.policy.max_users:
                    return users, entities, False
                waiting.extend(fresh)
        return users, entities, True

    def ring_among(self, users: set[str], entities: set[str]) -> Ring | None:
        """The ring that a whole component forms, or None."""
        policy, links = self.policy, self.links
        if len(users) < policy.min_users:
            return None
        weights = {user: [links[entity].weight for entity in self.entities_of[user]] for user in users}
        proven = sum(max(found) >= policy.strong_weight for found in weights.values())
        if proven < policy.min_strong_share * len(users):
            return None
        tie = sum(1.0 - prod(sorted(1.0 - weight for weight in weights[user])) for user in sorted(users)) / len(users)
        oldest = min(entities, key=lambda entity: (links[entity].since, entity))
        evidence = sorted(entities, key=lambda entity: (-links[entity].weight, entity))[: policy.max_evidence]
        return Ring(
            ring_id="ring-" + stable_id(self.tenant_id, oldest, links[oldest].since)[:16],
            users=tuple(sorted(users)),
            evidence=tuple(evidence),
            risk=round(tie * len(users) / (len(users) + policy.size_half), 4),
        )

    def regroup(self, touched: set[str]) -> list[UserRing]:
        """Recomputes the rings of users whose ties have changed and of all they were in a ring with; tells who is to know.

        Every component that changed holds one of `touched`: a part that falls off a component was tied to it by one of them.
        """
        before = {
            user: ring
            for one in touched
            if (old := self.ring_of.get(one)) is not None
            for user in old.users
            if (ring := self.ring_of.get(user)) is not None
        }
        told: list[UserRing] = []
        done: set[str] = set()
        crowd: set[str] = set()
        for user in sorted(touched):
            if user in done or user in crowd or user not in self.entities_of:
                continue
            users, entities, whole = self.component(user)
            if not whole:
                crowd |= users
                continue
            done |= users
            ring = self.ring_among(users, entities)
            if ring is not None:
                told += self._assign(ring)
                for member in users:
                    before.pop(member, None)
        for user in sorted(before):
            del self.ring_of[user]
            told.append(self._tell(user, None))
        return told

    def _assign(self, ring: Ring) -> list[UserRing]:
        told = []
        for user in ring.users:
            old = self.ring_of.get(user)
            self.ring_of[user] = ring
            if old is None or old.told != ring.told:
                told.append(self._tell(user, ring))
        return told

    def _tell(self, user: str, ring: Ring | None) -> UserRing:
        if ring is None:
            return UserRing(
                user_id=user, tenant_id=self.tenant_id, ring_id="", size=0, risk=0.0, members=(), evidence=(), updated_at=self.clock
            )
        return UserRing(
            user_id=user,
            tenant_id=self.tenant_id,
            ring_id=ring.ring_id,
            size=len(ring.users),
            risk=ring.risk,
            members=ring.users[: self.policy.max_members],
            evidence=ring.evidence,
            updated_at=self.clock,
        )


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
            graph = self._tenant(link.tenant_id)
            graph.put(link)
            graph.clock = max(graph.clock, link.seen_at)
        for graph in self.tenants.values():
            graph.regroup(set(graph.entities_of))

    def snapshot(self) -> bytes | None:
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
            since=shared.seen_at,
        )
        if link.seen_at < graph.clock - self.window_ms:
            return Told({}, [])
        if old is not None:
            link = _merged(old, link)
            if link == old:
                return Told({}, [])
        graph.clock = max(graph.clock, link.seen_at)
        touched = graph.put(link)
        gone, untied = graph.expire()
        links: dict[str, SharedLink | None] = {entity_key(shared.tenant_id, shared.entity): link}
        links.update((entity_key(shared.tenant_id, entity), None) for entity in gone)
        touched |= untied
        return Told(links, graph.regroup(touched) if touched else [])

    def rings(self) -> list[tuple[str, Ring]]:
        """Every ring with its tenant, by tenant and ring id."""
        found = {(tenant, ring.ring_id): ring for tenant, graph in self.tenants.items() for ring in graph.ring_of.values()}
        return [(tenant, ring) for (tenant, _), ring in sorted(found.items(), key=lambda item: item[0])]

    def _tenant(self, tenant_id: str) -> TenantGraph:
        graph = self.tenants.get(tenant_id)
        if graph is None:
            graph = self.tenants[tenant_id] = TenantGraph(tenant_id, self.policy, self.window_ms)
        return graph


def _merged(old: SharedLink, new: SharedLink) -> SharedLink:
    """The newest of two, with the older age: commutative and idempotent, so that repeats and reordering do no harm."""
    newest = max(old, new, key=lambda link: (link.seen_at, link.user_count, link.users, link.weight))
    since = min(old.since, new.since)
    return newest if since == newest.since else msgspec.structs.replace(newest, since=since)
