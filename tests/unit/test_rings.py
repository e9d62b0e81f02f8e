"""Ring analysis: who shares an entity, which rings that makes, and who is told."""

from __future__ import annotations

import msgspec
import pytest

from agents.rings import find_rings, ring_graph, watch_entities
from models.ring_picture import graph_statistics, ring_picture
from models.rings import RingGraph
from rules.policy import default_policy
from schemas.records import EntitySighting, SharedEntity, UserRing
from schemas.topics import ENTITIES_SHARED, USER_RINGS
from tables.entities import EntityUsers, SharedLink, entity_key

POLICY = default_policy()
DAY_MS = 86_400_000
WINDOW_MS = POLICY.sharing.window_s * 1000
NOW_MS = 1_800_000_000_000


def seen(entity: str, user: str, at: int = NOW_MS, failed: bool = False, tenant: str = "default") -> EntitySighting:
    return EntitySighting(entity=entity, tenant_id=tenant, user_id=user, seen_at=at, failed=failed)


def watch(sightings: list[EntitySighting], states: dict[str, EntityUsers] | None = None) -> list[msgspec.Struct]:
    outputs = watch_entities(sightings, {} if states is None else states, NOW_MS)
    if states is not None:
        states.update(outputs.changes)  # type: ignore[arg-type]
    for emit in outputs.emits:
        assert emit.topic == (ENTITIES_SHARED.name if isinstance(emit.record, SharedEntity) else USER_RINGS.name)
    return [emit.record for emit in outputs.emits]


def shared(entity: str, *users: str, at: int = NOW_MS, weight: float = 0.8, tenant: str = "default") -> SharedEntity:
    return SharedEntity(entity=entity, tenant_id=tenant, users=users, user_count=len(users), weight=weight, seen_at=at)


def find(graph: RingGraph, *news: SharedEntity) -> dict[str, UserRing]:
    """What each user was told last."""
    outputs = find_rings(news, {}, NOW_MS, memory=graph)
    assert all(emit.topic == USER_RINGS.name and emit.key == emit.record.user_id for emit in outputs.emits)  # type: ignore[attr-defined]
    return {emit.record.user_id: emit.record for emit in outputs.emits}  # type: ignore[attr-defined, misc]


CHAIN = (
    shared("device:d1", "u1", "u2", at=NOW_MS),
    shared("payment:p1", "u2", "u3", at=NOW_MS + 1, weight=0.9),
    shared("device:d2", "u3", "u4", at=NOW_MS + 2),
    shared("email:m1", "u4", "u5", at=NOW_MS + 3, weight=0.95),
)


class TestFirstLevel:
    def test_the_second_user_makes_a_device_shared(self) -> None:
        assert watch([seen("device:d", "u1"), seen("device:d", "u2")]) == [
            SharedEntity(entity="device:d", tenant_id="default", users=("u1", "u2"), user_count=2, weight=0.8, seen_at=NOW_MS)
        ]

    def test_an_address_weighs_less_the_more_share_it(self) -> None:
        found = watch([seen("ip:a", f"u{i}") for i in range(4)])
        assert [(one.user_count, one.weight) for one in found] == [(2, 0.45), (3, 0.2), (4, 0.1125)]  # type: ignore[attr-defined]

    def test_an_address_of_many_ties_nobody(self) -> None:
        found = watch([seen("ip:nat", f"u{i}", NOW_MS + i) for i in range(500)])
        assert [one.user_count for one in found] == [2, 3, 4, 5]  # type: ignore[attr-defined]
        assert (found[-1].users, found[-1].weight) == ((), 0.0)  # type: ignore[attr-defined]

    def test_a_repeat_tells_nothing(self) -> None:
        states: dict[str, EntityUsers] = {}
        watch([seen("device:d", "u1"), seen("device:d", "u2")], states)
        assert watch([seen("device:d", "u1"), seen("device:d", "u2")], states) == []

    def test_an_unchanged_link_is_told_again_once_a_day(self) -> None:
        sightings = [seen("device:d", f"u{i % 2}", NOW_MS + i * DAY_MS // 4) for i in range(17)]
        assert [one.seen_at - NOW_MS for one in watch(sightings)] == [DAY_MS // 4 + day * DAY_MS for day in range(4)]  # type: ignore[attr-defined]

    def test_who_is_not_seen_for_the_window_is_no_sharer(self) -> None:
        found = watch([seen("device:d", "u1"), seen("device:d", "u2", NOW_MS + 5), seen("device:d", "u2", NOW_MS + WINDOW_MS + 1)])
        assert [(one.users, one.weight) for one in found] == [(("u1", "u2"), 0.8), ((), 0.0)]  # type: ignore[attr-defined]

    def test_a_late_sighting_counts_within_the_window_only(self) -> None:
        late, too_late = seen("device:d", "u2", NOW_MS - DAY_MS), seen("device:d", "u3", NOW_MS - WINDOW_MS - 1)
        assert [one.users for one in watch([seen("device:d", "u1"), late, too_late])] == [("u1", "u2")]  # type: ignore[attr-defined]

    def test_what_is_remembered_is_bounded(self) -> None:
        states: dict[str, EntityUsers] = {}
        watch([seen("device:kiosk", f"u{i:04}", NOW_MS + i) for i in range(1000)], states)
        users = states[entity_key("default", "device:kiosk")].users
        assert len(users) == POLICY.sharing.kinds["device"].max_users
        assert "u0999" in users

    def test_tenants_do_not_share(self) -> None:
        assert watch([seen("device:d", "u1"), seen("device:d", "u2", tenant="other")]) == []

    def test_an_unknown_kind_is_left_alone(self) -> None:
        assert watch([seen("shoe:d", "u1"), seen("shoe:d", "u2"), seen("shoe:d", "u2", failed=True)]) == []


class TestAttacks:
    def test_failed_logins_of_many_accounts_at_one_address_are_an_attack_on_all_of_them(self) -> None:
        found = watch([seen("ip:bad", f"u{i}", NOW_MS + i, failed=True) for i in range(10)])
        assert [one.user_id for one in found] == [f"u{i}" for i in range(10)]  # type: ignore[attr-defined]
        first = found[0]
        assert isinstance(first, UserRing)
        assert first.ring_id.startswith("attack-")
        assert (first.size, first.risk, first.evidence) == (POLICY.sharing.attack.min_failed_users, 0.9, ("ip:bad",))
        assert len({one.ring_id for one in found}) == 1  # type: ignore[attr-defined]

    def test_nobody_becomes_a_sharer_by_failing(self) -> None:
        assert watch([seen("device:d", f"u{i}", failed=True) for i in range(4)]) == []

    def test_an_address_where_many_are_at_home_is_none(self) -> None:
        at_home = [seen("ip:nat", f"h{i:02}") for i in range(20)]
        assert [one for one in watch(at_home + [seen("ip:nat", f"u{i}", failed=True) for i in range(9)]) if isinstance(one, UserRing)] == []

    def test_who_mistypes_and_then_gets_in_is_no_victim(self) -> None:
        mistyped = [seen("ip:a", f"u{i}", NOW_MS + i, failed=True) for i in range(4)]
        got_in = [seen("ip:a", f"u{i}", NOW_MS + 100 + i) for i in range(4)]
        assert [
            one for one in watch(mistyped + got_in + [seen("ip:a", "u8", NOW_MS + 200, failed=True)]) if isinstance(one, UserRing)
        ] == []

    def test_failures_over_days_are_none(self) -> None:
        assert watch([seen("ip:a", f"u{i}", NOW_MS + i * DAY_MS, failed=True) for i in range(20)]) == []


class TestSecondLevel:
    def test_a_chain_over_devices_payments_and_emails_is_one_ring(self) -> None:
        told = find(ring_graph(), *CHAIN)
        assert set(told) == {"u1", "u2", "u3", "u4", "u5"}
        ring = told["u1"]
        assert (ring.size, ring.members, ring.updated_at) == (5, ("u1", "u2", "u3", "u4", "u5"), NOW_MS + 3)
        assert ring.evidence == ("email:m1", "payment:p1", "device:d1", "device:d2")
        assert len({one.ring_id for one in told.values()}) == 1
        assert 0.6 < ring.risk < 0.8

    def test_four_are_no_ring(self) -> None:
        assert find(ring_graph(), *CHAIN[:3]) == {}

    def test_the_ring_keeps_its_id_while_it_grows_and_merges(self) -> None:
        graph = ring_graph()
        before = find(graph, *CHAIN)["u1"]
        other = [shared(f"device:x{i}", f"a{i}", f"a{i + 1}", at=NOW_MS + 10 + i) for i in range(5)]
        assert find(graph, *other)["a0"].ring_id != before.ring_id
        merged = find(graph, shared("payment:bridge", "a0", "u1", at=NOW_MS + 50))
        assert {one.ring_id for one in merged.values()} == {before.ring_id}
        assert merged["a5"].size == 11
        assert merged["u1"].risk > before.risk

    def test_who_falls_off_is_told(self) -> None:
        graph = ring_graph()
        find(graph, *CHAIN)
        told = find(graph, shared("email:m1", at=NOW_MS + 10, weight=0.0))
        assert {user: one.ring_id for user, one in told.items()} == dict.fromkeys(("u1", "u2", "u3", "u4", "u5"), "")

    def test_a_ring_that_splits_leaves_its_larger_part(self) -> None:
        graph = ring_graph()
        find(graph, *CHAIN, shared("device:d3", "u5", "u6", at=NOW_MS + 4))
        told = find(graph, shared("device:d3", at=NOW_MS + 5, weight=0.0))
        assert told["u6"].ring_id == ""
        assert told["u1"].size == 5

    def test_links_expire_by_event_time(self) -> None:
        graph = ring_graph()
        find(graph, *CHAIN)
        outputs = find_rings([shared("device:far", "x", "y", at=NOW_MS + 2 * WINDOW_MS)], {}, NOW_MS, memory=graph)
        assert [emit.record.ring_id for emit in outputs.emits] == [""] * 5  # type: ignore[attr-defined]
        assert [key for key, link in outputs.changes.items() if link is None] == [entity_key("default", one.entity) for one in CHAIN]

    def test_a_link_that_was_seen_since_does_not_expire(self) -> None:
        graph = ring_graph()
        find(graph, *CHAIN)
        half, late = NOW_MS + WINDOW_MS * 2 // 3, NOW_MS + WINDOW_MS * 4 // 3
        find(graph, *(msgspec.structs.replace(one, seen_at=half) for one in CHAIN))
        assert find(graph, shared("device:far", "x", "y", at=late)) == {}
        assert len(graph.rings()) == 1

    def test_a_household_on_one_address_is_no_ring(self) -> None:
        assert find(ring_graph(), shared("ip:home", "a", "b", "c", "d", "e", weight=0.3)) == {}

    def test_an_office_with_one_shared_device_is_no_ring(self) -> None:
        office = shared("ip:office", *"abcdefg", weight=0.15)
        assert find(ring_graph(), office, shared("device:lobby", "a", "b", "c")) == {}

    def test_who_loses_proof_takes_the_weak_link_along(self) -> None:
        """u3 holds two groups together by addresses; without u3's own proof they fall apart, though no link of theirs changed."""
        graph = ring_graph()
        groups = (shared("device:1", "u1", "u2"), shared("device:2", "u4", "u5"), shared("device:3", "u3", "x", at=NOW_MS + 1))
        told = find(graph, *groups, shared("ip:a", "u2", "u3", weight=0.45), shared("ip:b", "u3", "u4", weight=0.45))
        assert told["u5"].size == 6
        told = find(graph, shared("device:3", at=NOW_MS + 2, weight=0.0))
        assert {user: one.ring_id for user, one in told.items()} == dict.fromkeys(("u1", "u2", "u3", "u4", "u5", "x"), "")

    def test_a_chain_is_as_good_as_its_links(self) -> None:
        strong = find(ring_graph(), *(shared(f"device:{i}", f"u{i}", f"u{i + 1}") for i in range(5)))["u0"]
        pairs = [shared(f"device:{i}", f"u{2 * i}", f"u{2 * i + 1}") for i in range(3)]
        weak = find(ring_graph(), *pairs, *(shared(f"ip:{i}", f"u{2 * i + 1}", f"u{2 * i + 2}", weight=0.45) for i in range(2)))["u0"]
        assert strong.size == weak.size == 6
        assert strong.risk == round(0.8 * 6 / 8, 4)
        assert weak.risk == round((3 * 0.8 + 2 * 0.45) / 5 * 6 / 8, 4)

    def test_an_address_chains_those_who_hold_proof(self) -> None:
        told = find(
            ring_graph(),
            shared("device:d1", "a", "b", "c"),
            shared("payment:p1", "d", "e", weight=0.9),
            shared("ip:x", "a", "d", "e", weight=0.3),
        )
        assert told["e"].size == 5

    def test_a_crowd_is_no_ring(self) -> None:
        policy = msgspec.structs.replace(POLICY.rings, max_users=10)
        graph = RingGraph(policy, WINDOW_MS)
        links = [shared(f"device:d{i}", f"u{i:02}", f"u{i + 1:02}", at=NOW_MS + i) for i in range(12)]
        told = find(graph, *links)
        assert {one.ring_id for one in told.values()} == {""}
        assert graph.rings() == []
        told = find(graph, shared("device:d6", at=NOW_MS + 20, weight=0.0))
        assert sorted({one.size for one in told.values()}) == [6, 7]

    def test_the_number_of_links_is_bounded(self) -> None:
        policy = msgspec.structs.replace(POLICY.rings, max_links=50)
        graph = RingGraph(policy, WINDOW_MS)
        outputs = find_rings([shared(f"device:{i}", f"a{i}", f"b{i}", at=NOW_MS + i) for i in range(80)], {}, NOW_MS, memory=graph)
        assert len(graph.tenants["default"].links) == 50
        assert sum(link is None for link in outputs.changes.values()) == 30
        assert "device:79" in graph.tenants["default"].links

    def test_a_repeat_is_counted_and_tells_nobody(self) -> None:
        graph = ring_graph()
        find(graph, *CHAIN)
        outputs = find_rings(CHAIN, {}, NOW_MS, memory=graph)
        assert (outputs.emits, outputs.changes, outputs.repeats) == ([], {}, 4)

    def test_stale_news_is_left_alone(self) -> None:
        graph = ring_graph()
        find(graph, shared("device:far", "x", "y", at=NOW_MS + 2 * WINDOW_MS))
        assert find_rings(CHAIN, {}, NOW_MS, memory=graph).repeats == 4

    def test_restored_from_the_keyed_state_it_goes_on_as_before(self) -> None:
        graph, again = ring_graph(), ring_graph()
        changes = find_rings(CHAIN, {}, NOW_MS, memory=graph).changes
        stored = {key: msgspec.msgpack.decode(msgspec.msgpack.encode(link), type=SharedLink) for key, link in changes.items()}
        again.restore(graph.snapshot(), stored.items())
        assert again.rings() == graph.rings()
        assert find_rings(CHAIN, {}, NOW_MS, memory=again).emits == []
        more = shared("device:d9", "u1", "u9", at=NOW_MS + 9)
        assert find(again, more) == find(graph, more)

    def test_tenants_make_no_ring_together(self) -> None:
        assert find(ring_graph(), *CHAIN[:2], *(msgspec.structs.replace(one, tenant_id="other") for one in CHAIN[2:])) == {}

    @pytest.mark.parametrize("size", [40, 300])
    def test_a_large_ring_is_told_at_every_eighth_and_to_newcomers(self, size: int) -> None:
        graph = ring_graph()
        told = 0
        for i in range(size):
            outputs = find_rings([shared(f"device:{i}", f"u{i:03}", f"u{i + 1:03}", at=NOW_MS + i)], {}, NOW_MS, memory=graph)
            told += len(outputs.emits)
        assert told < size * 36


class TestPictures:
    def test_a_ring_as_nodes_and_edges(self) -> None:
        graph = ring_graph()
        find(graph, *CHAIN)
        (tenant, ring), *_ = graph.rings()
        picture = ring_picture(ring, graph.tenants[tenant].links.values())
        assert [(node.label, node.kind) for node in picture.nodes][:6] == [
            *((f"u{i}", "user") for i in range(1, 6)),
            ("device:d1", "device"),
        ]
        assert len(picture.nodes) == 9
        assert len(picture.edges) == 8
        assert {(edge.user, edge.entity, edge.weight) for edge in picture.edges} >= {("u2", "payment:p1", 0.9)}

    def test_statistics(self) -> None:
        graph = ring_graph()
        find(graph, *CHAIN, shared("device:pair", "x", "y"))
        found = graph_statistics(graph.tenants["default"])
        assert (found.users, found.entities, found.links, found.components, found.rings, found.crowds) == (7, 5, 10, 2, 1, 0)
        assert found.largest_component == 5
        assert found.communities >= 2
        assert 0 <= found.modularity <= 1
        assert found.hubs[0].user in {"u2", "u3", "u4"}

    def test_statistics_of_nothing(self) -> None:
        graph = RingGraph(POLICY.rings, WINDOW_MS)
        find(graph, shared("device:alone", at=NOW_MS, weight=0.0))
        found = graph_statistics(graph.tenants["default"])
        assert (found.users, found.communities, found.hubs, found.largest_component) == (0, 0, (), 0)
