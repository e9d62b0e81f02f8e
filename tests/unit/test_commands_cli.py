"""The command line as a person meets it."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import psycopg
import pytest
import typer
from typer.testing import CliRunner

from commands import docs
from streams.settings import settings
from usher import cli

RUNNER = CliRunner()


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No settings but the test's own."""
    import os

    for name in [name for name in os.environ if name.startswith("USHER_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    settings.cache_clear()
    yield
    settings.cache_clear()


def commands(group: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, one in getattr(group, "commands", {}).items():
        yield (*path, name)
        yield from commands(one, (*path, name))


EVERY = list(commands(typer.main.get_command(cli)))


def test_help_names_every_command() -> None:
    found = RUNNER.invoke(cli, ["--help"])
    assert found.exit_code == 0
    assert all(path[0] in found.stdout for path in EVERY)
    for name in ("up", "worker", "produce", "simulate", "replay", "status", "tail", "inspect", "evaluate", "regulations", "dead", "topics"):
        assert (name,) in EVERY


@pytest.mark.parametrize("path", EVERY, ids=" ".join)
def test_every_command_says_what_it_does(path: tuple[str, ...]) -> None:
    found = RUNNER.invoke(cli, [*path, "--help"])
    assert found.exit_code == 0
    text = [line for line in found.stdout.splitlines() if line.strip()]
    assert len(text) > 2
    assert "Usage" in text[0]


def test_help_of_a_replay_says_that_settings_are_not_read() -> None:
    for command in (["replay"], ["evaluate", "decisions"]):
        text = " ".join(RUNNER.invoke(cli, [*command, "--help"]).stdout.split())
        assert "defaults" in text


def test_simulated_events_are_the_same_bytes_twice() -> None:
    first, second, other = (RUNNER.invoke(cli, ["simulate", "--events", "100", "--seed", seed]) for seed in ("1", "1", "2"))
    assert first.stdout_bytes == second.stdout_bytes != other.stdout_bytes
    events = [json.loads(line) for line in first.stdout.splitlines()]
    assert len(events) == 100
    assert not any("label" in one for one in events)


def test_a_replay_runs_from_standard_input_and_says_what_came_out(tmp_path: Path) -> None:
    events = RUNNER.invoke(cli, ["simulate", "--events", "50"]).stdout_bytes
    found = RUNNER.invoke(cli, ["replay", "-", "--out", str(tmp_path / "out")], input=events)
    assert found.exit_code == 0, found.stderr
    assert "50 records: 50 decisions" in found.stderr
    assert len((tmp_path / "out" / "decisions.jsonl").read_bytes().splitlines()) == 50


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [("events.jsonl", b'{"event_id": "[/red]"}\n', "line 1"), ("[/nowhere].jsonl", None, "[/nowhere].jsonl: No such file or directory")],
)
def test_a_replay_of_what_is_no_recording_ends_with_one_sentence(name: str, content: bytes | None, said: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    found = RUNNER.invoke(cli, ["replay", name, "--out", "out"])
    assert (found.exit_code, said in found.stderr) == (1, True)


def test_a_replay_into_a_place_that_cannot_be_written_ends_with_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    (tmp_path / "events.jsonl").write_text("")
    found = RUNNER.invoke(cli, ["replay", "events.jsonl", "--out", "out"])
    assert (found.exit_code, "out: File exists" in found.stderr) == (1, True)


def test_texts_are_inspected_line_by_line() -> None:
    lines = [{"text": "a quiet evening"}, {"text": "1' OR '1'='1' --"}]
    found = RUNNER.invoke(cli, ["inspect"], input="\n\n".join(json.dumps(line) for line in lines))
    clean, attack = (json.loads(line) for line in found.stdout.splitlines())
    assert clean == {"verdict": "clean", "kinds": []}
    assert attack == {"verdict": "attack", "kinds": ["sql_injection"]}
    refused = RUNNER.invoke(cli, ["inspect"], input='{"text": "x"}\n{"words": 1}\n')
    assert (refused.exit_code, "line 2" in refused.stderr) == (1, True)


def test_regulations_of_a_day_and_a_code_are_one_json_document() -> None:
    found = RUNNER.invoke(cli, ["regulations", "--json", "--at", "2026-01-01", "--for", "GDPR"])
    assert found.exit_code == 0
    assert "GDPR" in json.dumps(json.loads(found.stdout))
    again = RUNNER.invoke(cli, ["regulations", "--json", "--at", "2026-01-01", "--for", "GDPR"])
    assert found.stdout == again.stdout
    assert "Laws" in RUNNER.invoke(cli, ["regulations", "--at", "2026-01-01", "--for", "GDPR"]).stdout
    for wrong in (["--for", "QQ-LAW"], ["--at", "yesterday"]):
        refused = RUNNER.invoke(cli, ["regulations", "--json", *wrong])
        assert (refused.exit_code, wrong[1] in refused.stderr) == (1, True)


def test_settings_are_explained_without_the_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USHER_POSTGRES_DSN", "postgresql://me:topsecret@db:5432/usher")
    found = RUNNER.invoke(cli, ["settings", "--explain"])
    assert found.exit_code == 0
    assert "topsecret" not in found.stdout
    assert "db:5432/usher" in found.stdout
    assert "Kafka bootstrap servers" in found.stdout
    assert "Kafka bootstrap servers" not in RUNNER.invoke(cli, ["settings"]).stdout


@pytest.mark.parametrize("command", [["settings"], ["status"], ["worker", "score"], ["dead", "list"], ["topics", "list"]])
def test_a_wrong_setting_ends_with_status_2_and_its_name(command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USHER_PARTITIONS", "many")
    found = RUNNER.invoke(cli, command)
    assert found.exit_code == 2
    assert "USHER_PARTITIONS" in found.stderr


def test_a_wrong_setting_in_an_env_file_is_named_too(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("USHER_POSTGRES_DSN=nonsense\n")
    found = RUNNER.invoke(cli, ["settings"])
    assert (found.exit_code, "USHER_POSTGRES_DSN" in found.stderr) == (2, True)


@pytest.mark.parametrize("command", [["dead", "show", "ott.nothing.v1"], ["dead", "replay", "ott.nothing.v1"]])
def test_a_topic_that_is_none_is_named(command: list[str]) -> None:
    found = RUNNER.invoke(cli, command)
    assert (found.exit_code, "there is no topic ott.nothing.v1" in found.stderr) == (1, True)


def test_dead_letters_without_kafka_end_with_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    from confluent_kafka import KafkaError, KafkaException

    from commands import dead

    def away(*_: Any) -> Any:
        raise KafkaException(KafkaError(KafkaError._TRANSPORT))

    monkeypatch.setattr(dead, "end_offsets", away)
    for command in ("list", "show", "replay"):
        found = RUNNER.invoke(cli, ["dead", command])
        assert (found.exit_code, found.stderr.startswith("Kafka: ")) == (1, True)


# --- generated documents ----------------------------------------------------------------------------------------------


def test_documents_are_written_where_they_changed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(docs, "DOCS", tmp_path)
    monkeypatch.setattr(docs, "GENERATED", {"a.md": lambda: "a", "b.md": lambda: "b"})
    (tmp_path / "b.md").write_text("b")
    found = RUNNER.invoke(cli, ["docs"])
    assert (found.exit_code, found.stderr.strip()) == (0, "written: a.md")
    assert RUNNER.invoke(cli, ["docs"]).stderr.strip() == "every generated document is current"
    assert sorted(path.name for path in tmp_path.glob("*.md")) == ["a.md", "b.md"]


def test_the_data_dictionary_is_written_from_the_database_that_is_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(docs, "DOCS", tmp_path)
    monkeypatch.setattr(docs, "GENERATED", {})
    monkeypatch.setenv("USHER_POSTGRES_DSN", "postgresql://db/usher")
    monkeypatch.setattr(docs.dictionary, "render", lambda dsn: f"tables of {dsn}\n")
    assert RUNNER.invoke(cli, ["docs", "--tables"]).stderr.strip() == "written: tables.md"
    assert (tmp_path / "tables.md").read_text() == "tables of postgresql://db/usher\n"

    def away(dsn: str) -> str:
        raise psycopg.OperationalError("no server")

    monkeypatch.setattr(docs.dictionary, "render", away)
    found = RUNNER.invoke(cli, ["docs", "--tables"])
    assert (found.exit_code, "Postgres: no server" in found.stderr) == (1, True)


def test_the_command_line_answers_without_loading_the_stream() -> None:
    import subprocess

    code = "import sys, usher; assert not {'faust', 'sklearn', 'confluent_kafka', 'psycopg'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(docs.__file__).parents[1], timeout=60)


def test_a_code_that_begins_like_a_country_is_still_unknown() -> None:
    refused = CliRunner().invoke(cli, ["regulations", "--for", "NOLAW"])
    assert refused.exit_code == 1


def test_a_simulation_that_cannot_be_is_told_in_one_sentence() -> None:
    for wrong in (["--events", "0"], ["--start", "yesterday"], ["--misbehaviour", "0.9"]):
        refused = CliRunner().invoke(cli, ["simulate", *wrong])
        assert refused.exit_code == 1, wrong
        assert refused.exception is None or isinstance(refused.exception, SystemExit)
