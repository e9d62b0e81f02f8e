"""What `usher status` says, and what it says when parts are away."""

from pathlib import Path
from typing import Any

import psycopg
import pytest
from confluent_kafka import KafkaError, KafkaException
from rich.console import Console

from commands import status
from commands.status import Found, print_status, read_everything, stage_groups, working_groups
from schemas.topics import CONSENTS, FEEDBACK, RAW, SCORED, USER_RINGS, VALID
from streams.admin import GroupLag
from streams.flow import Topology
from streams.settings import Settings
from streams.store import StoreStatus
from streams.topology import make_topology

STORE = StoreStatus(events=3, decisions=2, alerts=1, violations=4, dead_letters=5, rings=6, rate_per_s=1.26)


@pytest.fixture(scope="module")
def topology() -> Topology:
    return make_topology(Settings.model_construct())


def group(stage: str, members: int = 1, lag: int = 0, reads: tuple[str, ...] = ()) -> GroupLag:
    return GroupLag(f"usher-{stage}", "topic", lag, True, members, frozenset(reads))


def shown(found: Found) -> str:
    console = Console(record=True, width=160, file=open("/dev/null", "w"))  # noqa: SIM115
    print_status(found, console)
    return console.export_text()


# --- which stage works where ------------------------------------------------------------------------------------------

ALL_STAGES = ("validate", "check", "score", "link", "alert", "rings", "communities")
FUSED_READS = (VALID.name, CONSENTS.name, FEEDBACK.name, USER_RINGS.name)


def test_split_stages_work_in_their_own_groups(topology: Topology) -> None:
    assert working_groups(topology, [group(name) for name in ALL_STAGES]) == {name: f"usher-{name}" for name in ALL_STAGES}


def test_fused_stages_work_in_the_group_of_the_first_even_where_their_own_is_left_over(topology: Topology) -> None:
    found = [group("validate"), group("check", reads=FUSED_READS)] + [group(name, 0, lag=9_999) for name in ("score", "link", "alert")]
    assert working_groups(topology, [*found, group("rings"), group("communities")]) == {
        "validate": "usher-validate", "check": "usher-check", "score": "usher-check", "link": "usher-check", "alert": "usher-check",
        "rings": "usher-rings", "communities": "usher-communities",
    }  # fmt: skip


def test_a_stage_whose_side_topics_nobody_reads_and_all_after_it_are_run_by_nobody(topology: Topology) -> None:
    working = working_groups(topology, [group("check", reads=(VALID.name, CONSENTS.name)), group("alert")])
    assert working == {
        "validate": "",
        "check": "usher-check",
        "score": "",
        "link": "",
        "alert": "usher-alert",
        "rings": "",
        "communities": "",
    }


def test_partly_fused_stages_are_told_apart(topology: Topology) -> None:
    found = [group("check", reads=(VALID.name, CONSENTS.name, FEEDBACK.name)), group("link", reads=(SCORED.name, USER_RINGS.name))]
    working = working_groups(topology, found)
    assert [working[name] for name in ("check", "score", "link", "alert")] == ["usher-check", "usher-check", "usher-link", "usher-link"]


def test_nobody_runs_anything(topology: Topology) -> None:
    assert set(working_groups(topology, []).values()) == {""}
    assert stage_groups(topology)["usher-validate"] == (RAW.name,)


# --- asking -----------------------------------------------------------------------------------------------------------


def found_with(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, topology: Topology, **answers: Any) -> Found:
    def answer(name: str, default: Any) -> Any:
        def ask(*_: Any, **__: Any) -> Any:
            given = answers.get(name, default)
            if isinstance(given, Exception):
                raise given
            return given

        return ask

    monkeypatch.setattr(status, "end_offsets", answer("end_offsets", {"p0": 7, "p1": 8}))
    monkeypatch.setattr(status, "lags", answer("lags", [group("validate", lag=12_345), group("score", 0, lag=77)]))
    monkeypatch.setattr(status, "read_status", answer("read_status", STORE))
    settings = Settings.model_construct(
        data_dir=tmp_path, postgres_dsn="postgresql://me:secret@db:5432/usher", redis_url="redis://:hidden@cache:6379/0"
    )
    return read_everything(settings, topology)


def test_the_figures_for_programs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, topology: Topology) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "main.url").write_text("http://127.0.0.1:1")
    found = found_with(monkeypatch, tmp_path, topology).as_json()
    counts = {name: found[name] for name in ("events", "decisions", "alerts", "dead_letters", "rate_per_s", "violations", "rings")}
    assert counts == {"events": 3, "decisions": 2, "alerts": 1, "dead_letters": 5, "rate_per_s": 1.3, "violations": 4, "rings": 6}
    assert found["raw_records"] == 15
    assert found["lag"] == {"usher-validate:topic": 12_345}, "a group without members is left over from another set-up"
    assert found["idle_stages"] == ["check", "score", "link", "alert", "rings", "communities"]
    assert found["urls"]["worker main"] == "http://127.0.0.1:1"
    assert found["problems"] == []


def test_no_password_is_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, topology: Topology) -> None:
    found = found_with(monkeypatch, tmp_path, topology)
    assert found.urls == {"kafka": "127.0.0.1:9092", "postgres": "postgresql://db:5432/usher", "redis": "redis://cache:6379/0"}
    text = shown(found)
    assert "secret" not in text
    assert "hidden" not in text


def test_the_figures_for_people(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, topology: Topology) -> None:
    text = shown(found_with(monkeypatch, tmp_path, topology))
    assert "12,345" in text
    assert "nobody runs: check, score, link, alert, rings, communities" in text
    assert "nobody runs" not in shown(Found())


@pytest.mark.parametrize(
    ("answers", "problem", "empty"),
    [
        ({"read_status": psycopg.OperationalError("[/gone]")}, "Postgres: [/gone]", ("events", "decisions", "alerts", "dead_letters", "rate_per_s")),
        ({"end_offsets": KafkaException(KafkaError(KafkaError._TRANSPORT))}, "Kafka at 127.0.0.1:9092", ("lag", "idle_stages", "raw_records")),
        ({"lags": TimeoutError()}, "no answer within 5 s", ("lag", "idle_stages")),
    ],
)  # fmt: skip
def test_a_part_that_is_away_is_a_problem_and_leaves_its_figures_empty(
    answers: dict[str, Any], problem: str, empty: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, topology: Topology
) -> None:
    found = found_with(monkeypatch, tmp_path, topology, **answers)
    (said,) = found.problems
    assert problem in said
    assert not any(found.as_json()[name] for name in empty)
    assert problem in shown(found)
