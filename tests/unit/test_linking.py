"""Linking: what is added to an event, what is reported of it, and what is learned of rings."""

from __future__ import annotations

import msgspec
import pytest

from agents.linking import entities_of, learn_rings, link_events
from agents.step import user_key
from rules.policy import default_policy
from schemas.codec import Case
from schemas.records import Compliance, Event, Members, Origin, Score, UserRing
from schemas.topics import ENTITIES_SEEN
from tables.entities import entity_key
from tables.links import Links

NOW_MS = 1_800_000_000_000
HOUR_MS = 3_600_000
POLICY = default_policy()


def an_event(offset: int = 0, at: int = NOW_MS, **fields: object) -> Event:
    given: dict[str, object] = {
        "event_id": f"e{offset}",
        "tenant_id": "default",
        "user_id": "u1",
        "device_id": "tv1",
        "content_id": "",
        "event_type": "PLAY",
        "timestamp": at,
        "received_at": at,
        "region": "NL",
        "is_eu": True,
        "has_consent": True,
        "ip_address": "198.51.100.7",
        "origin": Origin(partition=0, offset=offset),
    }
    return Event(**(given | fields))  # type: ignore[arg-type]


def a_case(event: Event) -> Case:
    compliance = Compliance(laws=(), purpose="service", consent="GRANTED", breaches=(), rules_version="1", checked_at=0)
    score = Score(
        risk=0.1, members=Members(), reasons=(), segment="normal", model_version="1", features=(), feature_version="1", scored_at=0
    )
    return Case(event, compliance, score, parts=(b"event", b"compliance", b"score"))


def a_ring(ring_id: str = "ring-a", updated_at: int = NOW_MS, **fields: object) -> UserRing:
    given: dict[str, object] = {
        "user_id": "u1",
        "tenant_id": "default",
        "ring_id": ring_id,
        "size": 6,
        "risk": 0.7,
        "members": (),
        "evidence": ("device:tv1",),
        "updated_at": updated_at,
    }
    return UserRing(**(given | fields))  # type: ignore[arg-type]


def run(
    events: list[Event], states: dict[str, Links] | None = None, cut: int | None = None
) -> tuple[list[Case], list[tuple[str, str]], int]:
    """Cases, (key, entity) of the sightings and repeats of all batches, states kept as the runtime does."""
    states = {} if states is None else states
    cases, reported, repeats = [], [], 0
    cut = cut or len(events)
    for start in range(0, len(events), cut):
        fresh = {key: msgspec.msgpack.decode(msgspec.msgpack.encode(state), type=Links) for key, state in states.items()}
        outputs = link_events([a_case(event) for event in events[start : start + cut]], fresh, NOW_MS)
        states.update({key: state for key, state in outputs.changes.items() if state is not None})
        cases += outputs.cases
        assert {emit.topic for emit in outputs.emits} <= {ENTITIES_SEEN.name}
        reported += [(emit.key, emit.record.entity) for emit in outputs.emits]  # type: ignore[attr-defined]
        repeats += outputs.repeats
    return cases, reported, repeats


def test_an_event_is_linked_by_device_address_payment_and_email() -> None:
    event = an_event(payment_token="tok", email_hash="ABC")
    cases, reported, _ = run([event])
    network = cases[0].network
    assert network is not None
    assert network.links == ("device:tv1", "ip:198.51.100.7", "payment:tok", "email:abc")
    assert (network.ring_id, network.ring_size, network.linked_at) == (None, 0, NOW_MS)
    assert [entity for _, entity in reported] == list(network.links)
    assert reported[0][0] == entity_key("default", "device:tv1")


def test_the_pieces_bytes_travel_with_the_case() -> None:
    cases, _, _ = run([an_event()])
    assert cases[0].parts == (b"event", b"compliance", b"score")


@pytest.mark.parametrize(
    ("address", "entity"),
    [
        ("2001:db8:1:2:aaaa::1", "ip:2001:db8:1:2::/64"),
        ("2001:db8:1:2:bbbb::9", "ip:2001:db8:1:2::/64"),
        ("::ffff:198.51.100.7", "ip:198.51.100.7"),
        ("198.51.100.7", "ip:198.51.100.7"),
    ],
)
def test_addresses_stand_for_one_subscriber_line(address: str, entity: str) -> None:
    assert entity in entities_of(an_event(ip_address=address), POLICY.linking)


@pytest.mark.parametrize("fields", [{"device_id": "UNKNOWN"}, {"ip_address": "0.0.0.0"}, {"ip_address": "no:address"}])
def test_placeholders_link_nobody(fields: dict[str, str]) -> None:
    assert len(entities_of(an_event(0, NOW_MS, payment_token="none", email_hash="", **fields), POLICY.linking)) == 1


def test_an_entity_is_reported_at_first_sight_and_then_rarely() -> None:
    every = POLICY.linking.report_every_s * 1000
    events = [an_event(i, NOW_MS + at) for i, at in enumerate([0, 1000, every - 1, every, every + 5, every // 2])]
    _, reported, _ = run(events)
    assert [entity for _, entity in reported] == ["device:tv1", "ip:198.51.100.7"] * 2


def test_failed_logins_are_reported_apart_and_only_by_where_they_came_from() -> None:
    events = [
        an_event(0, event_type="LOGIN_FAILED", email_hash="abc"),
        an_event(1, NOW_MS + 1000, event_type="LOGIN_FAILED", email_hash="abc"),
        an_event(2, NOW_MS + 61_000, event_type="PAYMENT", error_code="declined", payment_token="tok"),
    ]
    outputs = link_events([a_case(event) for event in events], {}, NOW_MS)
    found = [(emit.record.entity, emit.record.failed) for emit in outputs.emits]  # type: ignore[attr-defined]
    assert found == [("device:tv1", True), ("ip:198.51.100.7", True)] * 2


def test_a_repeat_is_left_out_also_after_the_state_was_stored() -> None:
    states: dict[str, Links] = {}
    run([an_event(0), an_event(1)], states)
    cases, reported, repeats = run([an_event(1), an_event(2), an_event(2)], states)
    assert ([case.event.event_id for case in cases], reported, repeats) == (["e2"], [], 2)


def test_the_cut_into_batches_changes_nothing() -> None:
    events = [an_event(i, NOW_MS + i * HOUR_MS, device_id=f"d{i % 3}", user_id=f"u{i % 2}") for i in range(40)]
    whole, by_three, one_by_one = ({}, {}, {})  # type: ignore[var-annotated]
    assert run(events, whole) == run(events, by_three, 3) == run(events, one_by_one, 1)
    assert whole == by_three == one_by_one


def test_tenants_do_not_share_state() -> None:
    states: dict[str, Links] = {}
    _, reported, _ = run([an_event(0), an_event(1, tenant_id="other")], states)
    assert set(states) == {user_key("default", "u1"), user_key("other", "u1")}
    assert len({key for key, _ in reported}) == 4


def test_what_is_remembered_of_a_user_is_bounded() -> None:
    states: dict[str, Links] = {}
    run([an_event(i, NOW_MS + i, device_id=f"d{i}", ip_address=f"198.51.100.{i % 250}") for i in range(300)], states)
    assert len(states[user_key("default", "u1")].reported) == POLICY.linking.max_reported


def test_a_ring_is_told_with_the_users_next_events() -> None:
    changes = learn_rings([a_ring()], {}, NOW_MS).changes
    cases, _, _ = run([an_event()], changes)  # type: ignore[arg-type]
    network = cases[0].network
    assert network is not None
    assert (network.ring_id, network.ring_size, network.ring_risk, network.evidence) == ("ring-a", 6, 0.7, ("device:tv1",))


def test_the_newest_ring_wins_in_whatever_order_they_come() -> None:
    key = user_key("default", "u1")
    told = [a_ring("ring-a", 10), a_ring("ring-b", 30), a_ring("", 20, size=0)]
    for order in ((0, 1, 2), (1, 2, 0), (2, 1, 0), (1, 1, 0)):
        links = learn_rings([told[i] for i in order], {}, NOW_MS).changes[key]
        assert links is not None
        assert links.ring is not None
        assert links.ring.ring_id == "ring-b"


def test_who_left_is_in_no_ring() -> None:
    changes = learn_rings([a_ring("ring-a", 10), a_ring("", 20, size=0)], {}, NOW_MS).changes
    cases, _, _ = run([an_event()], changes)  # type: ignore[arg-type]
    assert cases[0].network is not None
    assert cases[0].network.ring_id is None


def test_old_news_changes_nothing() -> None:
    state = learn_rings([a_ring("ring-b", 30)], {}, NOW_MS).changes
    outputs = learn_rings([a_ring("ring-a", 10)], state, NOW_MS)  # type: ignore[arg-type]
    assert (outputs.changes, outputs.repeats) == ({}, 1)


@pytest.mark.parametrize(
    ("address", "later_ms", "ring_risk", "found"),
    [
        ("198.51.100.7", 0, 0.7, "attack-x"),
        ("198.51.100.8", 0, 0.7, "ring-a"),
        ("198.51.100.7", 2 * HOUR_MS, 0.7, "ring-a"),
        ("198.51.100.7", 0, 0.95, "ring-a"),
    ],
)
def test_an_attack_concerns_events_from_its_address_while_it_lasts(address: str, later_ms: int, ring_risk: float, found: str) -> None:
    told = [a_ring(risk=ring_risk), a_ring("attack-x", evidence=("ip:198.51.100.7",), risk=0.9)]
    changes = learn_rings(told, {}, NOW_MS).changes
    cases, _, _ = run([an_event(at=NOW_MS + later_ms, ip_address=address)], changes)  # type: ignore[arg-type]
    assert cases[0].network is not None
    assert cases[0].network.ring_id == found
