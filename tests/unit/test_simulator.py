"""The simulator: what a stream holds, who may be in it, and what must never show."""

from __future__ import annotations

import ipaddress
import itertools
import re
import tomllib
from collections import defaultdict
from datetime import datetime
from pathlib import Path

import networkx
import pytest

from schemas.codec import Codec
from schemas.records import EVENT_TYPES, ConsentRecord, RawEvent
from simulator import SCENARIOS, Labelled, LabelledEvent, SimulationConfig, describe, generate, records
from simulator.config import DAY_MS, PLAN_STREAMS
from simulator.geography import Geography, distance_km, load_geography
from simulator.travel import journey_h

EVENTS = 30_000
TRACES = {"malformed", "duplicate"}


@pytest.fixture(scope="module")
def stream() -> list[Labelled]:
    return list(records(SimulationConfig(seed=5, events=EVENTS)))


@pytest.fixture(scope="module")
def events(stream: list[Labelled]) -> list[tuple[int, str, RawEvent]]:
    return [(one.at_ms, one.label, one.record) for one in stream if isinstance(one.record, RawEvent)]


def test_the_number_of_events_is_the_one_asked_for(events: list[tuple[int, str, RawEvent]]) -> None:
    assert len(events) == EVENTS
    assert len({event.event_id for _, _, event in events}) == EVENTS


def test_time_only_moves_forward_and_events_carry_it(stream: list[Labelled]) -> None:
    times = [one.at_ms for one in stream]
    assert times == sorted(times)
    forms = set()
    for one in stream:
        if isinstance(one.record, RawEvent):
            written = one.record.timestamp
            forms.add(type(written) if isinstance(written, int) else written[-1] == "Z")
            at_ms = written if isinstance(written, int) else round(datetime.fromisoformat(written).timestamp() * 1000)
            assert at_ms == one.at_ms
    assert forms == {int, True, False}


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_every_scenario_is_in_a_stream_of_twenty_thousand(seed: int) -> None:
    summary = describe(generate(SimulationConfig(seed=seed, events=20_000)))
    assert {one.label for one in summary.labels} == {"honest", *SCENARIOS}
    assert summary.misbehaviour_share == pytest.approx(0.015, rel=0.2)


def test_two_hundred_thousand_events_have_at_least_ten_users_a_scenario() -> None:
    summary = describe(generate(SimulationConfig(seed=4, events=200_000)))
    assert {one.label: one.users for one in summary.labels if one.users < 10} == {}
    assert summary.misbehaviour_share == pytest.approx(0.015, rel=0.1)
    assert summary.table().count("\n") == 9


def test_only_the_scenarios_of_the_mix_are_staged() -> None:
    summary = describe(generate(SimulationConfig(seed=1, events=6_000, mix={"bot": 1.0, "ring": 0.0})))
    assert {one.label for one in summary.labels} == {"honest", "bot"}


@pytest.mark.parametrize("setting", [{"misbehaviour_rate": 0.0}, {"mix": {}}])
def test_a_stream_without_misbehaviour_is_honest_throughout(setting: dict[str, object]) -> None:
    config = SimulationConfig(seed=1, events=4_000, **setting)  # type: ignore[arg-type]
    assert {one.label for one in generate(config)} == {"honest"}


def test_a_period_ends_when_it_is_over() -> None:
    config = SimulationConfig(seed=1, days=1.5, users=40)
    found = list(records(config))
    assert config.start_ms <= found[0].at_ms
    assert config.start_ms + DAY_MS < found[-1].at_ms < config.start_ms + 1.5 * DAY_MS
    assert config.expected_events == round(40 * 1.5 * config.rate_per_user_day)


def test_one_user_is_enough() -> None:
    config = SimulationConfig(seed=1, users=1, events=300)
    assert len(list(generate(config))) == 300


def test_defaults_grow_with_the_number_of_events() -> None:
    small, large = SimulationConfig(events=10_000), SimulationConfig(events=1_000_000)
    assert 5 < small.period_days < 9
    assert 100 < small.population < 200
    assert large.period_days == 30
    assert 2_500 < large.population < 4_000
    assert SimulationConfig(events=9_000, users=100).period_days == pytest.approx(9_000 / 100 / small.rate_per_user_day)
    assert SimulationConfig().population == 200
    assert SimulationConfig().period_days == 7


@pytest.mark.parametrize(
    ("setting", "name"),
    [
        ({"events": 0}, "events"),
        ({"users": 0}, "users"),
        ({"days": 0}, "days"),
        ({"start_ms": -1}, "start_ms"),
        ({"misbehaviour_rate": 0.5}, "misbehaviour_rate"),
        ({"mix": {"jaywalking": 1}}, "mix"),
        ({"mix": {"bot": -1}}, "mix"),
        ({"tenants": 0}, "tenants"),
        ({"heartbeat_s": 1}, "heartbeat_s"),
        ({"dirt_rate": 0.9}, "dirt_rate"),
        ({"unflagged_breaches": 2}, "unflagged_breaches"),
    ],
)
def test_settings_out_of_range_are_refused_by_name(setting: dict[str, object], name: str) -> None:
    with pytest.raises(ValueError, match=name):
        SimulationConfig(**setting)  # type: ignore[arg-type]


def test_honest_viewers_never_have_more_streams_than_their_plan_allows(events: list[tuple[int, str, RawEvent]]) -> None:
    alive: dict[str, dict[str, int]] = defaultdict(dict)
    most = 0
    for at_ms, label, event in events:
        if label != "honest" or event.session_id is None:
            continue
        streams = alive[event.user_id]
        kind = event.event_type.upper()
        if kind in ("PLAY", "HEARTBEAT"):
            streams[event.session_id] = at_ms
        elif kind == "STOP":
            streams.pop(event.session_id, None)
        for gone in [session for session, seen_ms in streams.items() if at_ms - seen_ms > 600_000]:
            del streams[gone]
        assert event.subscription_plan is not None
        assert len(streams) <= PLAN_STREAMS[event.subscription_plan]
        most = max(most, len(streams))
    assert most >= 2


def test_shared_accounts_have_more_streams_than_their_plan_allows(events: list[tuple[int, str, RawEvent]]) -> None:
    sharing = [(at_ms, event) for at_ms, label, event in events if label == "sharing"]
    shared = {event.user_id for _, event in sharing}
    exceeded = set()
    alive: dict[str, set[str | None]] = defaultdict(set)
    for _, event in sharing:
        kind = event.event_type.upper()
        if kind == "PLAY":
            alive[event.user_id].add(event.session_id)
        elif kind == "STOP":
            alive[event.user_id].discard(event.session_id)
        if len(alive[event.user_id]) > PLAN_STREAMS[event.subscription_plan or ""]:
            exceeded.add(event.user_id)
    assert shared
    assert exceeded == shared


def test_plans_are_those_of_the_rules() -> None:
    streams = tomllib.loads((Path(__file__).parents[2] / "rules" / "plans.toml").read_text())["streams"]
    assert {plan: streams[plan] for plan in PLAN_STREAMS} == dict(PLAN_STREAMS)


def _in_exits(geography: Geography, address: str) -> bool:
    number = int(ipaddress.ip_address(address))
    return any(first <= number < first + size for exits in geography.exits for first, size in exits.networks)


def test_honest_devices_travel_no_faster_than_an_airliner() -> None:
    geography = load_geography()
    nearest = {
        (one.code, other.code): min(distance_km(a, b) for a, b in itertools.product(one.cities, other.cities))
        for one, other in itertools.product(geography.countries, repeat=2)
    }
    last: dict[str, tuple[int, str]] = {}
    crossings = 0
    for one in records(SimulationConfig(seed=5, events=100_000, misbehaviour_rate=0)):
        at_ms, event = one.at_ms, one.record
        if not isinstance(event, RawEvent) or _in_exits(geography, event.ip_address):
            continue
        country = event.region[:2]
        before = last.get(event.device_id)
        if before and before[1] != country:
            crossings += 1
            hours = (at_ms - before[0]) / 3_600_000
            assert nearest[before[1], country] / hours < 900
        last[event.device_id] = (at_ms, country)
    assert crossings >= 10


@pytest.mark.parametrize("distance", [120, 300, 301, 2_500, 19_000])
def test_journeys_take_their_time(distance: float) -> None:
    assert distance / journey_h(distance) < 800


def test_nothing_but_behaviour_tells_thieves_from_viewers(events: list[tuple[int, str, RawEvent]]) -> None:
    shapes = {
        "event_id": r"evt_[0-9a-f]{16}",
        "user_id": r"user_[0-9a-f]{16}",
        "device_id": r"[a-z]+(_[a-z]+)?_[0-9a-f]{16}",
        "session_id": r"[0-9a-f]{16}",
        "payment_token": r"tok_[0-9a-f]{16}",
        "email_hash": r"[0-9a-f]{32}",
    }
    honest, staged = ([event for _, label, event in events if (label == "honest") is wanted] for wanted in (True, False))
    for name, shape in shapes.items():
        values = [getattr(event, name) for _, _, event in events if getattr(event, name) is not None]
        assert all(re.fullmatch(shape, value) for value in values), name
    for name in ("user_agent", "extra_metadata", "subscription_plan", "tenant_id", "consent_string"):
        assert {getattr(event, name) for event in staged} <= {getattr(event, name) for event in honest}, name
    # Ids are in no order: the rank of an id says nothing about when or for whom it was struck.
    share_low = sum(event.user_id < "user_8" for event in staged) / len(staged)
    assert 0.2 < share_low < 0.8
    assert not any(name in event.event_id + event.user_id + event.device_id for _, _, event in events for name in ("bot_", "ring"))


def test_types_are_known_and_both_cases_are_written(events: list[tuple[int, str, RawEvent]]) -> None:
    assert {event.event_type.upper() for _, _, event in events} <= set(EVENT_TYPES)
    assert any(event.event_type.islower() for _, _, event in events)
    assert any(event.event_type.isupper() for _, _, event in events)


def test_gateways_know_the_union_and_addresses_fit_the_claim(events: list[tuple[int, str, RawEvent]]) -> None:
    geography = load_geography()
    european = {one.code for one in geography.countries if one.is_eu}
    assert all(event.is_eu == (event.region[:2] in european) for _, _, event in events)
    assert len({event.region[:2] for _, _, event in events}) > 20
    assert any(":" in event.ip_address for _, _, event in events)


def test_who_refused_is_processed_only_for_the_service(events: list[tuple[int, str, RawEvent]]) -> None:
    refused = [event for _, label, event in events if label == "honest" and not event.has_consent]
    assert len(refused) > 200
    assert {event.purpose for event in refused if event.event_type.upper() != "CONSENT_CHANGE"} == {"service"}


def test_breaches_are_for_a_purpose_that_needs_consent_and_follow_a_refusal(stream: list[Labelled]) -> None:
    granted: dict[tuple[str, str], bool] = {}
    breaches = 0
    for one in stream:
        record = one.record
        if isinstance(record, ConsentRecord):
            assert one.label == "honest"
            assert record.effective_at <= one.at_ms
            granted[record.user_id, record.purpose] = record.granted
        elif one.label == "consent_breach":
            breaches += 1
            assert record.purpose in ("analytics", "personalisation", "marketing", "sale")
            assert not record.has_consent
            assert granted[record.user_id, record.purpose] is False
            if record.region.startswith("US"):
                assert record.purpose == "sale"
                assert record.content_id
    assert breaches


def test_breaches_can_be_left_to_the_consent_records() -> None:
    config = SimulationConfig(seed=2, events=20_000, mix={"consent_breach": 1.0}, misbehaviour_rate=0.005, unflagged_breaches=1.0)
    flags = {one.event.has_consent for one in generate(config) if one.label == "consent_breach"}
    assert flags == {True}


def test_rings_hold_together_and_count_five_or_more() -> None:
    links = networkx.Graph()
    for one in generate(SimulationConfig(seed=3, events=30_000, mix={"ring": 1.0})):
        event = one.event
        if one.label == "ring":
            for entity in (event.device_id, event.ip_address, event.payment_token, event.email_hash):
                if entity is not None:
                    links.add_edge(event.user_id, entity)
    rings = [sum(node.startswith("user_") for node in part) for part in networkx.connected_components(links)]
    assert len(rings) >= 3
    assert min(rings) >= 5


def test_machines_keep_time(events: list[tuple[int, str, RawEvent]]) -> None:
    times: dict[str, list[int]] = defaultdict(list)
    for at_ms, label, event in events:
        if label == "bot":
            times[event.user_id].append(at_ms)
    assert times
    for moments in times.values():
        gaps = [after - before for before, after in itertools.pairwise(moments)]
        mean = sum(gaps) / len(gaps)
        assert max(abs(gap - mean) for gap in gaps) < 0.1 * mean + 2


def test_tenants_share_the_stream_and_no_user_has_two() -> None:
    tenants: dict[str, set[str | None]] = defaultdict(set)
    for one in generate(SimulationConfig(seed=1, events=5_000, tenants=3)):
        tenants[one.event.user_id].add(one.event.tenant_id)
    assert set.union(*tenants.values()) == {"tenant-1", "tenant-2", "tenant-3"}
    assert all(len(found) == 1 for found in tenants.values())


def test_heartbeats_keep_their_distance() -> None:
    beats: dict[str | None, list[int]] = defaultdict(list)
    for one in records(SimulationConfig(seed=1, events=3_000, heartbeat_s=60, misbehaviour_rate=0)):
        if isinstance(one.record, RawEvent) and one.record.event_type.upper() == "HEARTBEAT":
            beats[one.record.session_id].append(one.at_ms)
    gaps = [after - before for moments in beats.values() for before, after in itertools.pairwise(moments)]
    assert min(gaps) >= 59_000
    assert sorted(gaps)[len(gaps) // 2] == pytest.approx(60_000, abs=1_000)


def test_every_record_survives_the_wire(stream: list[Labelled]) -> None:
    codec = Codec()
    for one in stream[:: len(stream) // 600]:
        assert codec.decode(codec.encode(one.record)) == one.record


def test_dirt_adds_what_the_way_does_and_labels_it() -> None:
    config = SimulationConfig(seed=9, events=8_000, dirt_rate=0.2)
    found = list(records(config))
    arrived = [one for one in found if isinstance(one.record, RawEvent)]
    assert len(arrived) == 8_000
    assert [one.at_ms for one in found] == sorted(one.at_ms for one in found)
    ids = [one.record.event_id for one in arrived]  # type: ignore[union-attr]
    assert {"duplicate", "malformed", "honest"} <= {one.label for one in arrived}
    first: dict[str, RawEvent] = {}
    for one in arrived:
        assert isinstance(one.record, RawEvent)
        if one.label == "duplicate":
            assert one.record == first[one.record.event_id]
        else:
            assert one.record.event_id not in first
            first[one.record.event_id] = one.record
    assert len(ids) > len(set(ids))
    late = [one for one in arrived if one.label == "honest" and isinstance(one.record.timestamp, int) and one.record.timestamp < one.at_ms]  # type: ignore[union-attr]
    assert late


def test_what_is_under_way_arrives_at_the_end_of_a_period() -> None:
    clean = list(generate(SimulationConfig(seed=9, days=1, users=30)))
    soiled = [one for one in generate(SimulationConfig(seed=9, days=1, users=30, dirt_rate=0.3)) if one.label not in TRACES]
    assert sorted(one.event.event_id for one in clean) == sorted(one.event.event_id for one in soiled)


def test_describe_counts() -> None:
    event = RawEvent(event_id="1", user_id="u", device_id="d", event_type="play", timestamp=1, region="US-CA", ip_address="192.0.2.1")
    other = RawEvent(event_id="2", user_id="v", device_id="d", event_type="PLAY", timestamp=1, region="US", ip_address="192.0.2.1")
    summary = describe(
        [LabelledEvent(event, "honest"), LabelledEvent(other, "honest"), LabelledEvent(other, "bot"), LabelledEvent(other, "duplicate")]
    )
    assert (summary.events, summary.users, summary.misbehaviour_share) == (4, 2, 0.25)
    assert [(one.label, one.events, one.users) for one in summary.labels] == [("honest", 2, 2), ("bot", 1, 1), ("duplicate", 1, 1)]
    assert [(one.name, one.events) for one in summary.types + summary.countries] == [("PLAY", 4), ("US", 4)]
    assert describe([]).misbehaviour_share == 0
