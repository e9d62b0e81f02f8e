"""The topology in memory: what it gives back, and what it counts."""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agents.step import Emit, Outputs
from schemas.codec import Case, Codec
from schemas.records import Alert, Compliance, Network, Origin, Score, Verdict
from schemas.topics import ALERTS, CONSENTS, RAW, VALID
from streams.flow import Stage, Topology
from streams.replay import BATCH_EVENTS, Input, Replay, decision_of, replay_to_files
from streams.settings import Settings
from streams.topology import make_topology
from tests.conftest import make_event, make_raw

CODEC = Codec()
NOW_MS = 1_780_000_000_000


@pytest.fixture(scope="module")
def topology() -> Topology:
    return make_topology(Settings.model_construct())


def raw_input(number: int, **changes: Any) -> Input:
    at_ms = NOW_MS + number * 60_000
    return Input(RAW, b"user-1", CODEC.encode(make_raw(event_id=f"evt-{number}", timestamp=at_ms, **changes)), at_ms)


def lines(path: Path) -> list[Any]:
    return [msgspec.json.decode(line) for line in path.read_bytes().splitlines()]


def test_every_event_is_a_decision_or_a_dead_letter_with_its_bytes_and_place(topology: Topology, tmp_path: Path) -> None:
    broken = Input(RAW, None, b"\x00\x00\x00\x00\x09junk", NOW_MS)
    inputs = [raw_input(0), raw_input(1, ip_address="999.1.1.1", region="Atlantis"), broken, raw_input(3)]
    totals = replay_to_files(topology, inputs, tmp_path / "new" / "folder")
    assert (totals.events, totals.decisions, totals.dead_letters) == (4, 2, 2)
    out = tmp_path / "new" / "folder"
    assert [one["event"]["event_id"] for one in lines(out / "decisions.jsonl")] == ["evt-0", "evt-3"]
    refused, unreadable = sorted(lines(out / "dead.jsonl"), key=lambda one: one["offset"])
    assert (refused["topic"], refused["offset"], refused["stage"]) == (RAW.name, 1, "validate")
    assert refused["reasons"] == ["region-invalid", "ip-invalid"]
    assert "ip_address" in refused["message"]
    assert (base64.b64decode(refused["key"]), base64.b64decode(refused["value"])) == (inputs[1].key, inputs[1].value)
    assert (unreadable["offset"], unreadable["key"], base64.b64decode(unreadable["value"])) == (2, None, broken.value)


def test_a_letter_without_a_value_is_shown_without_one(topology: Topology) -> None:
    (results,) = Replay(topology).feed([Input(RAW, b"k", b"", NOW_MS)])
    (letter,) = results.dead
    assert letter.reasons == ("empty-value",)


def test_records_of_side_topics_can_be_replayed_too(topology: Topology) -> None:
    (results,) = Replay(topology).feed([Input(CONSENTS, b"user-1", b"rubbish", NOW_MS), raw_input(0)])
    assert [letter.topic for letter in results.dead] == [CONSENTS.name]
    assert len(results.decisions) == 1


def test_each_batch_gives_its_own_results(topology: Topology) -> None:
    replay = Replay(topology)
    found = list(replay.feed(raw_input(number) for number in range(BATCH_EVENTS + 5)))
    assert [len(one.decisions) for one in found] == [BATCH_EVENTS, 5]
    assert len({id(one) for one in found}) == 2


def test_tables_outlive_a_feed(topology: Topology) -> None:
    replay = Replay(topology)
    counts = [sum(len(one.decisions) for one in replay.feed([raw_input(0), raw_input(1)])) for _ in range(2)]
    assert counts == [2, 0], "the same event ids again are retries"


def test_totals_are_told_after_each_batch(topology: Topology, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    inputs = (raw_input(number) for number in range(BATCH_EVENTS + 1))
    replay_to_files(topology, inputs, tmp_path, lambda totals: told.append((totals.events, totals.decisions)))
    assert told == [(BATCH_EVENTS, BATCH_EVENTS), (BATCH_EVENTS + 1, BATCH_EVENTS + 1)]


def test_nothing_in_gives_empty_files(topology: Topology, tmp_path: Path) -> None:
    totals = replay_to_files(topology, [], tmp_path)
    assert (totals.events, totals.decisions) == (0, 0)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == dict.fromkeys(
        ("decisions.jsonl", "alerts.jsonl", "violations.jsonl", "dead.jsonl"), b""
    )


def test_the_clock_is_the_latest_arrival(topology: Topology) -> None:
    late = Input(RAW, b"user-1", CODEC.encode(make_raw(timestamp=NOW_MS)), NOW_MS)
    (results,) = Replay(topology).feed([raw_input(5), late])
    assert {case.verdict.decided_at for case in results.decisions if case.verdict} == {raw_input(5).at_ms}


def raise_alert(batch: Sequence[Any], state: Mapping[str, Any], now_ms: int, *, memory: Any = None) -> Outputs[Any]:
    def alert(event_id: str) -> Emit:
        return Emit(ALERTS.name, "u", Alert(alert_id=event_id, tenant_id="t", user_id="u", event_id=event_id, kind="k", severity="LOW", title="t",
                                            detail="d", event_time=1, raised_at=now_ms))  # fmt: skip

    return Outputs(emits=[alert(one.record.event_id) for one in batch])


def test_a_flow_without_decisions_gives_its_side_records() -> None:
    (results,) = Replay(Topology((Stage("only", "", RAW, raise_alert, VALID, emits=(ALERTS,)),))).feed([raw_input(7)])
    assert [alert.event_id for alert in results.alerts] == ["evt-7"]  # type: ignore[attr-defined]
    assert results.decisions == []


def test_a_decision_needs_every_piece(topology: Topology) -> None:
    (results,) = Replay(topology).feed([raw_input(0)])
    (case,) = results.decisions
    decision = decision_of(case)
    kinds = (Compliance, Score, Network, Verdict)
    assert [type(one) for one in (decision.compliance, decision.score, decision.network, decision.verdict)] == list(kinds)
    with pytest.raises(ValueError, match="all stages"):
        decision_of(Case(make_event(origin=Origin(partition=0, offset=0))))
