"""A hop's steps over a batch: what is passed on, what is buried, what is remembered, in which order."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import pytest

from agents.step import Emit, Fault, Outputs, Received, Rejected
from schemas import topics as t
from schemas.codec import Case, Codec
from schemas.records import Alert, Compliance, ConsentRecord, Event, UserRing
from streams.chain import Chain, Source, StateView
from streams.dead_letters import ATTEMPT, REASONS, attempt_of
from streams.flow import Stage, Table, Topology, TopologyError
from tables.seen import count_once

CODEC = Codec()


class Count(msgspec.Struct, array_like=True):
    events: int = 0
    seen: dict[int, int] = {}


COUNTS, CHECKS = Table("counts", Count), Table("checks", Count)


def normalise(batch: Sequence[Received], state: Mapping[str, Any], now_ms: int, *, memory: Any = None) -> Outputs[Any]:
    out: Outputs[Any] = Outputs()
    for position, one in enumerate(batch):
        raw = one.record
        if raw.event_type == "BAD":
            out.rejects.append(Rejected(position, (Fault("bad-type", "no such type"), Fault("ugly", "indeed"))))
            continue
        out.cases.append(
            Case(Event(event_id=raw.event_id, tenant_id="default", user_id=raw.user_id, device_id=raw.device_id, content_id="", event_type="PLAY",
                       timestamp=1, received_at=one.timestamp_ms, region="NL", is_eu=True, has_consent=True, ip_address="", origin=one.origin))
        )  # fmt: skip
    return out


def counting(reject_ids: tuple[str, ...] = ()) -> Any:
    def count(batch: Sequence[Case], state: Mapping[str, Count], now_ms: int, *, memory: Any = None) -> Outputs[Count]:
        out: Outputs[Count] = Outputs()
        for position, case in enumerate(batch):
            user = case.event.user_id
            record = out.changes.get(user) or state.get(user) or Count(seen={})
            out.changes[user] = record
            if not count_once(record.seen, case.event.origin):
                out.repeats += 1
            elif case.event.event_id in reject_ids:
                out.rejects.append(Rejected(position, (Fault("unlucky", "late refusal"),)))
            else:
                record.events += 1
                out.cases.append(
                    Case(
                        case.event,
                        Compliance(laws=(), purpose="", consent="UNKNOWN", breaches=(), rules_version="", checked_at=now_ms),
                        parts=case.parts,
                    )
                )
        return out

    return count


def learn(batch: Sequence[ConsentRecord], state: Mapping[str, Count], now_ms: int, *, memory: Any = None) -> Outputs[Count]:
    alert = Alert(
        alert_id="a", tenant_id="t", user_id="u", event_id="e", kind="k", severity="LOW", title="t", detail="d", event_time=1, raised_at=1
    )
    return Outputs(changes={"learned": Count(len(batch), {})}, emits=[Emit(t.ALERTS.name, "u", alert)])


VALIDATE = Stage("validate", "", t.RAW, normalise, t.VALID, rekeys=True)
CHECK = Stage("check", "", t.VALID, counting(), t.CHECKED, learns=((t.CONSENTS, learn),), table=CHECKS)
COUNT = Stage("count", "", t.CHECKED, counting(("e3",)), None, table=COUNTS)


class Store:
    """Tables in dicts."""

    def __init__(self) -> None:
        self.tables: dict[str, dict[bytes, bytes]] = {}

    def read(self, table: Table) -> Any:
        return self.tables.setdefault(table.name, {}).get

    def apply(self, plan: Any) -> None:
        for change in plan.changes:
            for key, value in change.values.items():
                if value is None:
                    self.tables[change.table.name].pop(key, None)
                else:
                    self.tables[change.table.name][key] = value


def raw_source(raw: Any, offset: int, **changes: Any) -> Source:
    return Source(0, offset, 1_000 + offset, b"k", CODEC.encode(raw(**changes)))


def valid_source(event: Any, offset: int, **changes: Any) -> Source:
    return Source(0, offset, 1_000 + offset, b"u", CODEC.encode_case(Case(event(**changes)), "ott.ValidEvent"))


def test_bad_records_become_dead_letters_with_untouched_bytes_and_the_rest_goes_on(raw) -> None:
    good, refused = raw_source(raw, 0), raw_source(raw, 1, event_type="BAD")
    broken = Source(0, 2, 5, None, b"\x07junk", [("traceparent", b"00-1-2-03")])
    plan = Chain([VALIDATE], CODEC).run(t.RAW.name, [good, refused, broken], Store().read, {}, 9)
    dead = {message.key: message for message in plan.messages if message.topic == t.RAW.dead}
    assert dead[b"k"].value == refused.value
    assert dead[None].value == broken.value
    headers = dict(dead[b"k"].headers or ())
    assert headers[REASONS] == b"bad-type,ugly"
    assert headers["__connect.errors.topic"] == t.RAW.name.encode()
    assert headers["__connect.errors.offset"] == b"1"
    assert b"no such type" in headers["__connect.errors.exception.message"]
    assert dict(dead[None].headers or ())["traceparent"] == b"00-1-2-03"
    assert [message.topic for message in plan.messages].count(t.VALID.name) == 1
    (count,) = plan.counts
    assert (count.events_in, count.events_out, count.dead) == (3, 1, 2)


def test_a_dead_letter_that_dies_again_counts_its_attempts_and_keeps_no_old_reasons(raw) -> None:
    first = Source(0, 1, 1, b"k", b"junk bytes", [(ATTEMPT, b"2"), (REASONS, b"old"), ("__connect.errors.stage", b"old"), ("mine", b"1")])
    plan = Chain([VALIDATE], CODEC).run(t.RAW.name, [first], Store().read, {}, 9)
    headers = plan.messages[0].headers or []
    assert attempt_of(headers) == 3
    assert [value for name, value in headers if name == REASONS] == [b"bad-magic"]
    assert ("mine", b"1") in headers


def test_output_is_keyed_by_user(raw) -> None:
    plan = Chain([VALIDATE], CODEC).run(t.RAW.name, [raw_source(raw, 0, user_id="zoë")], Store().read, {}, 9)
    assert plan.messages[0].key == "zoë".encode()


def test_a_fused_hop_writes_the_topics_and_tables_that_split_hops_write(event) -> None:
    origin = type(event().origin)
    sources = [valid_source(event, n, event_id=f"e{n}", user_id=f"u{n % 2}", origin=origin(partition=0, offset=n)) for n in range(6)]
    fused_store, split_store = Store(), Store()
    fused = Chain([CHECK, COUNT], CODEC).run(t.VALID.name, sources, fused_store.read, {}, 9)
    fused_store.apply(fused)
    first = Chain([CHECK], CODEC).run(t.VALID.name, sources, split_store.read, {}, 9)
    split_store.apply(first)
    between = [Source(0, n, 1, m.key, m.value) for n, m in enumerate(first.messages)]
    second = Chain([COUNT], CODEC).run(t.CHECKED.name, between, split_store.read, {}, 9)
    split_store.apply(second)
    assert [m for m in fused.messages if m.topic == t.CHECKED.name] == first.messages
    assert fused_store.tables == split_store.tables


def test_a_late_refusal_in_a_fused_hop_buries_the_record_that_was_read(event) -> None:
    origin = type(event().origin)
    sources = [valid_source(event, n + 40, event_id=f"e{n}", origin=origin(partition=3, offset=n)) for n in (1, 1, 2, 3)]
    plan = Chain([CHECK, COUNT], CODEC).run(t.VALID.name, sources, Store().read, {}, 9)
    (dead,) = [message for message in plan.messages if message.topic == t.VALID.dead]
    assert dead.value == sources[3].value
    assert dict(dead.headers or ())["__connect.errors.offset"] == b"43"
    assert plan.counts[0].repeats == 1


def test_state_of_later_stages_is_written_first(event) -> None:
    plan = Chain([CHECK, COUNT], CODEC).run(t.VALID.name, [valid_source(event, 1)], Store().read, {}, 9)
    assert [change.table.name for change in plan.changes] == ["counts", "checks"]


def test_a_crash_between_two_tables_is_healed_by_running_the_batch_again(event) -> None:
    store, chain = Store(), Chain([CHECK, COUNT], CODEC)
    source = [valid_source(event, 1)]
    plan = chain.run(t.VALID.name, source, store.read, {}, 9)
    plan.changes = plan.changes[:1]  # the process dies after the first table
    store.apply(plan)
    again = chain.run(t.VALID.name, source, store.read, {}, 9)
    store.apply(again)
    counts = {name: msgspec.msgpack.decode(next(iter(table.values())), type=Count).events for name, table in store.tables.items()}
    assert counts == {"counts": 1, "checks": 1}


def test_the_same_batch_twice_changes_nothing_the_second_time(event) -> None:
    store, chain = Store(), Chain([CHECK, COUNT], CODEC)
    source = [valid_source(event, 1)]
    store.apply(chain.run(t.VALID.name, source, store.read, {}, 9))
    before = {name: dict(table) for name, table in store.tables.items()}
    again = chain.run(t.VALID.name, source, store.read, {}, 9)
    store.apply(again)
    assert store.tables == before
    assert again.messages == []


def test_side_topics_change_state_and_may_emit(event) -> None:
    consent = ConsentRecord(consent_id="c", tenant_id="default", user_id="u", purpose="*", granted=True, effective_at=1, source="app")
    store = Store()
    plan = Chain([CHECK], CODEC).run(
        t.CONSENTS.name, [Source(0, 1, 1, b"u", CODEC.encode(consent)), Source(0, 2, 1, b"u", b"x")], store.read, {}, 9
    )
    store.apply(plan)
    assert msgspec.msgpack.decode(store.tables["checks"][b"learned"], type=Count).events == 1
    assert {message.topic for message in plan.messages} == {t.ALERTS.name, t.CONSENTS.dead}


def test_tombstones_of_compacted_topics_are_no_dead_letters() -> None:
    stage = Stage("link", "", t.SCORED, counting(), None, learns=((t.USER_RINGS, learn),), table=COUNTS)
    ring = UserRing(user_id="u", tenant_id="t", ring_id="r", size=5, risk=0.5, members=(), evidence=(), updated_at=1)
    plan = Chain([stage], CODEC).run(
        t.USER_RINGS.name, [Source(0, 0, 1, b"u", None), Source(0, 1, 1, b"u", CODEC.encode(ring))], Store().read, {}, 9
    )
    assert [message.topic for message in plan.messages] == [t.ALERTS.name]
    empty = Chain([stage], CODEC).run(t.USER_RINGS.name, [Source(0, 0, 1, b"u", None)], Store().read, {}, 9)
    assert empty.messages == []


def test_a_step_cannot_list_or_count_a_table() -> None:
    view = StateView(COUNTS, {b"u": msgspec.msgpack.encode(Count(2, {}))}.get)
    assert view["u"].events == 2
    assert "u" in view
    assert view.get("x") is None
    with pytest.raises(KeyError):
        view["x"]
    with pytest.raises(TypeError):
        list(view)
    with pytest.raises(TypeError):
        len(view)


def test_hops_are_cut_where_the_key_changes_and_where_stages_are_missing() -> None:
    topology = Topology((VALIDATE, CHECK, COUNT))
    names = lambda hops: [[stage.name for stage in hop] for hop in hops]  # noqa: E731
    assert names(topology.hops(["count", "validate", "check"])) == [["validate"], ["check", "count"]]
    assert names(topology.hops(["validate", "count"])) == [["validate"], ["count"]]
    with pytest.raises(TopologyError, match="no stage 'nope'"):
        topology.hops(["nope"])
    with pytest.raises(TopologyError, match="twice"):
        topology.hops(["check", "check"])


def test_a_wrong_declaration_is_told_with_all_its_problems() -> None:
    twin = Stage("check", "", t.CHECKED, counting(), None, learns=((t.CONTROLS, learn),), table=CHECKS)
    problems = Topology((CHECK, twin)).problems()
    assert problems == ["two stages are called check", "two tables are called checks", "check reads topics that are not co-partitioned"]


def test_the_drawing_names_every_topic_and_stage() -> None:
    drawing = Topology((VALIDATE, CHECK, COUNT)).mermaid()
    for word in ("flowchart", "validate", "check", "count", t.RAW.name, t.CONSENTS.name):
        assert word in drawing
    assert Topology((VALIDATE, CHECK, COUNT)).writers(t.VALID) == ("validate",)
    assert Topology((VALIDATE, CHECK, COUNT)).readers(t.VALID) == ("check",)
