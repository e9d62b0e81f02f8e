"""Rings: users tied together by the devices, addresses, payment tokens and e-mails they share, directly or over others.

The graph is bipartite (users, shared entities) and holds only what enough users share. A strong link (a device, a payment
token, an e-mail) is proof against its users. A weak link (an address) ties only those of its users who hold proof: by itself it
ties a household, a campus or a carrier's customers. A ring is a connected component of at least `min_users` users.

Who is in a ring together, and the ring's risk, follow from the links present and not from the order in which they came:
- risk in [0, 1] = mean joint x n / (n + size_half), n users. The joints are the links of the maximum spanning tree that holds the
  members together (Kruskal, 1956): a chain is as good as its links, and a second weak link beside a strong one adds nothing.
- ring id: made from the link that was the first to hold a ring together (`ringed_at`). A ring that grows keeps its id, whatever
  joins it; of two rings that merge the older one's id stays; of a ring that splits the part with that link keeps it.

A change of a link recomputes only the components that its users are in, each at most `max_users` users wide, so the cost does
not grow with history. A larger component is a crowd: its members are in no ring, it shows in the statistics.
Links not seen for `window_ms` before the tenant's latest sighting are dropped.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from typing import Final

import msgspec

from rules.policy import RingPolicy
from schemas.records import UserRing
from tables.entities import SharedLink, stable_id

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


@dataclass(slots=True)
class TenantGraph:
    """The links of one tenant. Vertices are plain user ids and entities, as nothing crosses tenants."""

    tenant_id: str
    policy: RingPolicy
    window_ms: int
    links: dict[str, SharedLink] = field(default_factory=dict)
    entities_of: dict[str, set[str]] = field(default_factory=dict)
    """The entities that tie a user."""
    proofs: dict[str, int] = field(default_factory=dict)
    """How many strong links a user has; users without are left out."""
    ring_of: dict[str, Ring] = field(default_factory=dict)
    clock: int = 0
    """The latest sighting (Unix ms)."""
    ages: list[tuple[int, str]] = field(default_factory=list)
    """A heap of (time of a sighting, entity), one entry a link; a link may have been seen later than its entry says."""

    def connects(self, link: SharedLink) -> bool:
        """Whether a link ties users together."""
        return link.weight >= self.policy.min_link_weight and len(link.users) > 1

    def is_strong(self, link: SharedLink) -> bool:
        """Whether a link is proof against its users."""
        return link.weight >= self.policy.strong_weight and len(link.users) > 1

    def put(self, link: SharedLink) -> set[str]:
        """Adds or replaces a link. Returns the users whose ties have changed."""
        old = self.links.get(link.entity)
        self.links[link.entity] = link
        self.clock = max(self.clock, link.seen_at)
        if old is None:
            heapq.heappush(self.ages, (link.seen_at, link.entity))
        elif old.users == link.users and old.weight == link.weight:
            return set()
        return self._retie(old, link)

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
            gone.append(entity)
            touched |= self._retie(link, None)
            del self.links[entity]
        return gone, touched

    def _retie(self, old: SharedLink | None, new: SharedLink | None) -> set[str]:
        """Moves the users of a link's old form to its new one. Returns them, and all whom the change of their proof concerns."""
        before = old.users if old is not None and self.connects(old) else ()
        after = new.users if new is not None and self.connects(new) else ()
        touched = {*before, *after}
        proven = {user for user in touched if user in self.proofs}
        for user in before:
            self._untie(user, old.entity, old is not None and self.is_strong(old))  # type: ignore[union-attr]
        for user in after:
            self.entities_of.setdefault(user, set()).add(new.entity)  # type: ignore[union-attr]
            if new is not None and self.is_strong(new):
                self.proofs[user] = self.proofs.get(user, 0) + 1
        # Who gains or loses proof joins or leaves all of its weak links, and others with it.
        for user in (*before, *after):
            if (user in self.proofs) != (user in proven):
                for entity in self.entities_of.get(user, ()):
                    touched.update(self.links[entity].users)
        return touched

    def _untie(self, user: str, entity: str, is_proof: bool) -> None:
        entities = self.entities_of[user]
        entities.discard(entity)
        if not entities:
            del self.entities_of[user]
        if is_proof:
            self.proofs[user] -= 1
            if not self.proofs[user]:
                del self.proofs[user]

    def component(self, user: str) -> tuple[set[str], bool]:
        """Users tied to `user`, and whether these are all: it stops beyond `max_users`. Nobody is tied to who holds no proof."""
        users, entities, waiting = {user}, set[str](), [user]
        while waiting:
            for entity in self.entities_of.get(waiting.pop(), ()):
                if entity in entities:
                    continue
                entities.add(entity)
                fresh = [other for other in self.links[entity].users if other not in users and other in self.proofs]
                users.update(fresh)
                if len(users) > self.policy.max_users:
                    return users, False
                waiting.extend(fresh)
        return users, True

    def ring_among(self, users: set[str]) -> tuple[Ring, list[SharedLink]] | None:
        """The ring that a whole component forms with the links it is the first ring of, or None."""
        policy, links = self.policy, self.links
        if len(users) < policy.min_users:
            return None
        ties: dict[str, list[str]] = {}
        for user in sorted(users):
            for entity in self.entities_of[user]:
                ties.setdefault(entity, []).append(user)
        holding = sorted(entity for entity, tied in ties.items() if len(tied) > 1)
        ringed = [(at, entity) for entity in holding if (at := links[entity].ringed_at) is not None]
        # A newcomer is ringed after the founder even at the same instant: it must not take the name over.
        founded_at, founder = min(ringed) if ringed else (self.clock, holding[0])
        joined_at = max(self.clock, founded_at + 1) if ringed else founded_at
        newcomers = [msgspec.structs.replace(links[entity], ringed_at=joined_at) for entity in holding if links[entity].ringed_at is None]
        evidence = sorted(holding, key=lambda entity: (-links[entity].weight, entity))[: policy.max_evidence]
        ring = Ring(
            ring_id="ring-" + stable_id(self.tenant_id, founder, founded_at)[:16],
            users=tuple(sorted(users)),
            evidence=tuple(evidence),
            risk=self._risk({entity: ties[entity] for entity in holding}, len(users)),
        )
        return ring, newcomers

    def _risk(self, ties: dict[str, list[str]], size: int) -> float:
        """Risk of a ring whose users are tied by these entities."""
        root: dict[str, str] = {}
        joints: list[float] = []
        for entity in sorted(ties, key=lambda entity: (-self.links[entity].weight, entity)):
            first, *others = ties[entity]
            for other in others:
                one, two = _root(root, first), _root(root, other)
                if one != two:
                    root[two] = one
                    joints.append(self.links[entity].weight)
        return round(sum(joints) / len(joints) * size / (size + self.policy.size_half), 4)

    def regroup(self, touched: set[str]) -> tuple[list[UserRing], list[SharedLink]]:
        """Recomputes the rings of users whose ties have changed. Returns what users are to be told, and links with a new `ringed_at`.

        Every component that changed holds one of `touched`: a part that falls off a component was tied to it by one of them.
        """
        before = {user for one in touched if one in self.ring_of for user in self.ring_of[one].users}
        told: list[UserRing] = []
        ringed: list[SharedLink] = []
        done: set[str] = set()
        for user in sorted(touched):
            if user in done or user not in self.proofs:
                continue
            users, is_whole = self.component(user)
            done |= users
            found = self.ring_among(users) if is_whole else None
            if found is None:
                continue
            ring, newcomers = found
            for link in newcomers:
                self.links[link.entity] = link
            ringed += newcomers
            told += self._assign(ring)
            before -= users
        for user in sorted(before & self.ring_of.keys()):
            del self.ring_of[user]
            told.append(self._tell(user, None))
        return told, ringed

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


def _root(root: dict[str, str], user: str) -> str:
    """Who stands for the user's group (union-find with path halving)."""
    while (above := root.get(user, user)) != user:
        root[user] = root.get(above, above)
        user = above
    return user
