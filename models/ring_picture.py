"""Rings for people: a ring as nodes and edges, and statistics of a tenant's graph. Off the hot path, by networkx."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import networkx as nx

from models.tenant_graph import Ring, TenantGraph
from tables.entities import SharedLink, entity_kind

MAX_HUBS: Final = 10
COMMUNITY_SEED: Final = 7
"""Louvain visits vertices in random order; a fixed seed gives the same communities for the same graph."""


@dataclass(frozen=True, slots=True)
class RingNode:
    """A vertex: a user (`kind` user) or a shared entity (`kind` device, ip, payment, email)."""

    label: str
    kind: str


@dataclass(frozen=True, slots=True)
class RingEdge:
    """A user shares an entity; `weight` in [0, 1] is the link's strength."""

    user: str
    entity: str
    weight: float


@dataclass(frozen=True, slots=True)
class RingPicture:
    """A ring to be drawn: users first, then entities, each sorted."""

    ring_id: str
    risk: float
    nodes: tuple[RingNode, ...]
    edges: tuple[RingEdge, ...]


@dataclass(frozen=True, slots=True)
class Hub:
    """A user who holds parts of the graph together; `centrality` is betweenness in [0, 1]."""

    user: str
    centrality: float


@dataclass(frozen=True, slots=True)
class GraphStatistics:
    """A tenant's graph in figures.

    Attributes:
        users: users with at least one link.
        entities: shared entities that connect.
        links: user-entity pairs.
        components: connected components.
        largest_component: users in the largest one.
        rings: rings found.
        crowds: components too large to be held a ring.
        communities: groups by Louvain's method (Blondel et al., 2008).
        modularity: how well these groups are apart, in [-0.5, 1].
        hubs: users with the highest betweenness (Freeman, 1977), highest first.
    """

    users: int
    entities: int
    links: int
    components: int
    largest_component: int
    rings: int
    crowds: int
    communities: int
    modularity: float
    hubs: tuple[Hub, ...]


def ring_picture(ring: Ring, links: Iterable[SharedLink]) -> RingPicture:
    """A ring as nodes and edges.

    Args:
        ring: the ring.
        links: the links of its tenant; those that tie two of its users are drawn.
    """
    users = set(ring.users)
    drawn = sorted((link for link in links if len(users.intersection(link.users)) > 1), key=lambda link: link.entity)
    return RingPicture(
        ring_id=ring.ring_id,
        risk=ring.risk,
        nodes=(*(RingNode(user, "user") for user in ring.users), *(RingNode(link.entity, entity_kind(link.entity)) for link in drawn)),
        edges=tuple(RingEdge(user, link.entity, link.weight) for link in drawn for user in link.users if user in users),
    )


def graph_statistics(graph: TenantGraph, sample: int = 200) -> GraphStatistics:
    """Figures about a tenant's graph.

    Args:
        graph: links and rings of one tenant; not changed.
        sample: vertices that the betweenness is estimated from (Brandes and Pich, 2007); the cost grows with it.
    """
    network = as_networkx(graph)
    users = {vertex for vertex in network if vertex[0] == "user"}
    sizes = sorted((len(users.intersection(part)) for part in nx.connected_components(network)), reverse=True)
    parts: list[set[Any]] = nx.community.louvain_communities(network, weight="weight", seed=COMMUNITY_SEED) if network else []
    between = nx.betweenness_centrality(network, k=min(sample, len(network)), seed=COMMUNITY_SEED) if network else {}
    hubs = sorted(((round(between[vertex], 6), vertex[1]) for vertex in users), key=lambda hub: (-hub[0], hub[1]))[:MAX_HUBS]
    return GraphStatistics(
        users=len(users),
        entities=len(network) - len(users),
        links=network.number_of_edges(),
        components=len(sizes),
        largest_component=sizes[0] if sizes else 0,
        rings=len({ring.ring_id for ring in graph.ring_of.values()}),
        crowds=sum(size > graph.policy.max_users for size in sizes),
        communities=len(parts),
        modularity=round(nx.community.modularity(network, parts, weight="weight"), 6) if network else 0.0,
        hubs=tuple(Hub(user, centrality) for centrality, user in hubs),
    )


def as_networkx(graph: TenantGraph) -> Any:
    """The bipartite graph as a `networkx.Graph`: vertices ("user", id) and ("entity", kind:value), edges with a `weight`."""
    network = nx.Graph()
    for entity in sorted(graph.links):
        link = graph.links[entity]
        if graph.connects(link):
            network.add_weighted_edges_from((("user", user), ("entity", entity), link.weight) for user in link.users)
    return network
