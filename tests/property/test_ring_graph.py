"""The ring graph, kept incrementally, against networkx from scratch; and that order, repeats and batch cuts do not matter."""

from __future__ import annotations

import random

import msgspec
import networkx as nx
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.rings import find_rings, ring_graph, watch_entities
from models.rings import RingGraph
from rules.policy import default_policy
from schemas.records import EntitySighting, SharedEntity
from tables.entities import EntityUsers, SharedLink

POLICY = default_policy()
RINGS = msgspec.structs.replace(POLICY.rings, max_users=12, strong_weight=0.5)
WINDOW_MS = 1_000
USERS = [f"u{i:02}" for i in range(24)]

shared_entities = st.builds(
    lambda number, users, weight, at: SharedEntity(
        entity=f"device:{number}", tenant_id="default", users=tuple(sorted(users)), user_count=len(users), weight=weight, seen_at=at
    ),
    st.integers(0, 11),
    st.sets(st.sampled_from(USERS), max_size=5),
    st.sampled_from([0.0, 0.3, 0.8, 0.9]),
    st.integers(0, 3_000),
)


def expected_rings(news: list[SharedEntity], window_ms: int) -> set[frozenset[str]]:
    """Members of each ring, from scratch: newest news of each entity, not older than the window, components by networkx."""
    newest: dict[str, SharedEntity] = {}
    for one in news:
        known = newest.get(one.entity)
        if known is None or (one.seen_at, one.user_count, one.users, one.weight) > (
            known.seen_at,
            known.user_count,
            known.users,
            known.weight,
        ):
            newest[one.entity] = one
    clock = max(one.seen_at for one in news)
    graph = nx.Graph()
    for one in newest.values():
        if one.weight >= RINGS.min_link_weight and len(one.users) > 1 and one.seen_at >= clock - window_ms:
            graph.add_edges_from((("user", user), ("entity", one.entity)) for user in one.users)
    strong = {
        user
        for one in newest.values()
        if one.entity in {name for _, name in graph} and one.weight >= RINGS.strong_weight
        for user in one.users
    }
    graph.remove_nodes_from([vertex for vertex in graph if vertex[0] == "user" and vertex[1] not in strong])
    parts = [frozenset(name for kind, name in part if kind == "user") for part in nx.connected_components(graph)]
    return {part for part in parts if RINGS.min_users <= len(part) <= RINGS.max_users}


def rings_of(graph: RingGraph) -> set[frozenset[str]]:
    return {frozenset(ring.users) for _, ring in graph.rings()}


def sketch(graph: RingGraph) -> set[tuple[tuple[str, ...], tuple[str, ...], float]]:
    """Rings without their names, which tell how they grew."""
    return {(ring.users, ring.evidence, ring.risk) for _, ring in graph.rings()}


def told_rings(batches: list[list[SharedEntity]], graph: RingGraph) -> dict[str, str]:
    """The ring id each user was told last, without those who left."""
    told: dict[str, str] = {}
    for batch in batches:
        for emit in find_rings(batch, {}, 0, memory=graph).emits:
            told[emit.record.user_id] = emit.record.ring_id  # type: ignore[attr-defined]
    return {user: ring_id for user, ring_id in told.items() if ring_id}


@settings(max_examples=150, deadline=None)
@given(st.lists(shared_entities, min_size=1, max_size=40), st.integers(1, 8))
def test_rings_equal_components_from_scratch(news: list[SharedEntity], cut: int) -> None:
    graph = RingGraph(RINGS, WINDOW_MS)
    told = told_rings([news[start : start + cut] for start in range(0, len(news), cut)], graph)
    assert rings_of(graph) == expected_rings(news, WINDOW_MS)
    assert told == {user: ring.ring_id for _, ring in graph.rings() for user in ring.users}


@settings(max_examples=100, deadline=None)
@given(st.lists(shared_entities, min_size=1, max_size=30), st.randoms(use_true_random=False))
def test_order_and_repeats_do_not_matter(news: list[SharedEntity], chance: random.Random) -> None:
    shuffled = news + [chance.choice(news) for _ in range(len(news))]
    chance.shuffle(shuffled)
    straight, mixed = RingGraph(RINGS, 10_000), RingGraph(RINGS, 10_000)
    told_straight, told_mixed = told_rings([news], straight), told_rings([shuffled], mixed)
    assert sketch(straight) == sketch(mixed)
    for told, graph in ((told_straight, straight), (told_mixed, mixed)):
        assert told == {user: ring.ring_id for _, ring in graph.rings() for user in ring.users}


@settings(max_examples=100, deadline=None)
@given(st.lists(shared_entities, min_size=1, max_size=30), st.integers(0, 30))
def test_a_restart_in_between_changes_nothing(news: list[SharedEntity], at: int) -> None:
    through, before, after = (RingGraph(RINGS, WINDOW_MS) for _ in range(3))
    stored: dict[str, SharedLink | None] = dict(find_rings(news[:at], {}, 0, memory=before).changes)
    after.restore(None, [(key, link) for key, link in stored.items() if link is not None])
    find_rings(news[:at], {}, 0, memory=through)
    expected, found = find_rings(news[at:], {}, 0, memory=through), find_rings(news[at:], {}, 0, memory=after)
    assert found.emits == expected.emits
    assert found.changes == expected.changes


sightings = st.builds(
    lambda number, user, at, failed: EntitySighting(
        entity=number, tenant_id="default", user_id=user, seen_at=at * 43_200_000, failed=failed
    ),
    st.sampled_from(["device:1", "device:2", "ip:1", "payment:1", "email:1"]),
    st.sampled_from(USERS),
    st.integers(0, 80),
    st.booleans(),
)


def watched(batches: list[list[EntitySighting]]) -> tuple[dict[str, EntityUsers], list[SharedEntity]]:
    states: dict[str, EntityUsers] = {}
    emitted: list[SharedEntity] = []
    for batch in batches:
        fresh = {key: msgspec.msgpack.decode(msgspec.msgpack.encode(state), type=EntityUsers) for key, state in states.items()}
        outputs = watch_entities(batch, fresh, 0)
        states.update(outputs.changes)  # type: ignore[arg-type]
        emitted += [emit.record for emit in outputs.emits]  # type: ignore[misc]
    return states, emitted


@settings(max_examples=100, deadline=None)
@given(st.lists(sightings, min_size=1, max_size=80), st.integers(1, 20))
def test_watching_does_not_depend_on_the_cut_into_batches(found: list[EntitySighting], cut: int) -> None:
    assert watched([found]) == watched([found[start : start + cut] for start in range(0, len(found), cut)])


@settings(max_examples=100, deadline=None)
@given(st.lists(sightings, min_size=1, max_size=60), st.randoms(use_true_random=False))
def test_who_shares_what_does_not_depend_on_order_and_repeats(found: list[EntitySighting], chance: random.Random) -> None:
    mixed = found + [chance.choice(found) for _ in range(len(found))]
    chance.shuffle(mixed)
    straight, shuffled = watched([found])[0], watched([mixed])[0]
    assert {key: (one.users, one.failed, one.latest, one.failed_latest) for key, one in straight.items()} == {
        key: (one.users, one.failed, one.latest, one.failed_latest) for key, one in shuffled.items()
    }


@settings(max_examples=100, deadline=None)
@given(st.lists(sightings.filter(lambda one: not one.failed), min_size=1, max_size=80), st.randoms(use_true_random=False))
def test_both_levels_together_find_the_same_rings_in_any_order(found: list[EntitySighting], chance: random.Random) -> None:
    mixed = list(found)
    chance.shuffle(mixed)
    graphs = []
    for order in (found, mixed):
        graph = ring_graph()
        find_rings(watched([order])[1], {}, 0, memory=graph)
        graphs.append(rings_of(graph))
    assert graphs[0] == graphs[1]
