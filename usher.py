"""The command line, and the only place where the parts are put together.

Commands import what they need when they run, so that `usher --help` answers at once.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console

if TYPE_CHECKING:
    from schemas.codec import Codec
    from schemas.topics import Topic
    from streams.flow import Topology
    from streams.settings import Settings

cli = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    help="Decides, for every event of a video-streaming platform, whether it is lawful, normal and honest.",
)
keys_cli = typer.Typer(no_args_is_help=True, help="API keys of gateways.")
topics_cli = typer.Typer(no_args_is_help=True, help="Topics: create them, list them, draw the flow.")
schemas_cli = typer.Typer(no_args_is_help=True, help="Avro schemas: check, lock and generate.")
dead_cli = typer.Typer(no_args_is_help=True, help="Dead letters: list, show, replay.")
evaluate_cli = typer.Typer(no_args_is_help=True, help="Measures detection on labelled data.")
cli.add_typer(keys_cli, name="keys")
cli.add_typer(topics_cli, name="topics")
cli.add_typer(schemas_cli, name="schemas")
cli.add_typer(dead_cli, name="dead")
cli.add_typer(evaluate_cli, name="evaluate")

console = Console()
notes = Console(stderr=True)


def _settings() -> Settings:
    from pydantic import ValidationError

    from streams.settings import settings

    try:
        return settings()
    except ValidationError as error:
        for problem in error.errors():
            notes.print(f"[red]USHER_{'_'.join(str(part) for part in problem['loc']).upper()}: {problem['msg']}[/red]")
        raise typer.Exit(2) from None


def _topology(settings: Settings) -> Topology:
    from streams.topology import make_topology

    return make_topology(settings)


def _codec(settings: Settings) -> Codec:
    from schemas.topics import ALL
    from streams.registry import RegistryError, make_codec

    try:
        return make_codec(settings.registry_url, ALL)
    except RegistryError as error:
        _fail(f"schema registry: {error}")


def _default_topology() -> Topology:
    """The flow with the settings' defaults, whatever this machine's environment says: what is computed from a file depends on the file alone."""
    from streams.settings import Settings

    return _topology(Settings.model_construct())


def _fail(message: str) -> NoReturn:
    notes.print(message, style="red", markup=False)
    raise typer.Exit(1)


@contextmanager
def _stop_on_signals() -> Iterator[Callable[[], bool]]:
    """Gives a function that says whether SIGINT or SIGTERM has arrived; a second signal ends at once."""
    told: list[int] = []

    def note(number: int, frame: Any) -> None:
        if told:
            raise KeyboardInterrupt
        told.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(told)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _read_lines(path: str) -> Iterator[bytes]:
    if path == "-":
        yield from sys.stdin.buffer
    else:
        try:
            with open(path, "rb") as lines:
                yield from lines
        except OSError as error:
            _fail(f"{path}: {error.strerror}")


@cli.command()
def up(
    rate: Annotated[float, typer.Option(help="Simulated events a second, at most; 0 for none.")] = 20.0,
    split: Annotated[bool, typer.Option("--split", help="One worker a stage instead of one for all.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Do not show decisions.")] = False,
) -> None:
    """Brings everything up on this machine: Kafka, Postgres, Valkey, workers, sinks and live simulated traffic. Ctrl-C stops all."""
    from commands.up import run_everything

    settings = _settings()
    raise typer.Exit(run_everything(settings, _topology(settings), rate, split, quiet))


@cli.command()
def worker(
    stages: Annotated[list[str] | None, typer.Argument(help="Stages to run; adjacent ones are fused. None: all of them.")] = None,
) -> None:
    """Runs stages of the pipeline until SIGTERM, with health and metrics on a port of its own."""
    from streams.flow import TopologyError
    from streams.logs import configure_logs
    from streams.worker import run_worker

    settings = _settings()
    configure_logs(settings.log_format, settings.log_level)
    topology = _topology(settings)
    names = stages or [stage.name for stage in topology.stages]
    try:
        asyncio.run(run_worker(topology, names, _codec(settings), settings))
    except TopologyError as error:
        _fail(str(error))


@cli.command()
def migrate() -> None:
    """Brings the Postgres schema up to date; safe to run again and from several places at once."""
    from deploy.migrate import migrate as run

    run(_settings().postgres_dsn)
    notes.print("the database schema is up to date")


@cli.command()
def sink(
    names: Annotated[list[str], typer.Argument(help="Sinks to run: postgres, redis.")],
) -> None:
    """Runs sinks until SIGTERM: `postgres` stores decisions and all else, each exactly once; `redis` keeps recent decisions."""
    from streams.logs import configure_logs
    from streams.sinks.service import SINKS, run_sinks

    settings = _settings()
    configure_logs(settings.log_format, settings.log_level)
    unknown = [name for name in names if name not in SINKS]
    if unknown:
        _fail(f"there is no sink {', '.join(unknown)}; sinks are: {', '.join(SINKS)}")
    asyncio.run(run_sinks(names, lambda: _codec(settings), settings))


@cli.command()
def api(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 8000,
) -> None:
    """Serves HTTP ingest: POST /v1/events, for gateways that cannot speak Kafka."""
    from commands.api import Unconfigured, serve
    from streams.logs import configure_logs

    settings = _settings()
    configure_logs(settings.log_format, settings.log_level)
    try:
        serve(settings, _codec(settings), host, port)
    except Unconfigured as error:
        _fail(str(error))


@keys_cli.command("new")
def keys_new(client: Annotated[str, typer.Argument(help="Name of the client the key is for.")]) -> None:
    """Makes an API key: the key on standard error, once; the line for USHER_API_KEYS_FILE on standard output."""
    from api.clients import new_api_key

    key, digest = new_api_key()
    notes.print(f"key for {client}, shown only now: [bold]{key}[/bold]", highlight=False, soft_wrap=True)
    print(f"{client} {digest}")


@topics_cli.command("create")
def topics_create() -> None:
    """Creates the topics that are missing: the flow's own, dead letters and changelogs."""
    from schemas.topics import ALL
    from streams.admin import create_topics, wanted_topics

    settings = _settings()
    made = create_topics(
        settings.bootstrap_servers, wanted_topics(_topology(settings), ALL, settings.partitions, settings.replication_factor)
    )
    notes.print(f"{len(made)} topics created" if made else "every topic is there")


@topics_cli.command("list")
def topics_list() -> None:
    """Lists every topic with its record, its key, and who writes and reads it."""
    from rich.table import Table

    from schemas.topics import ALL

    topology = _topology(_settings())
    table = Table("topic", "record", "key", "written by", "read by", "kept")
    for topic in ALL:
        kept = (
            "newest of a key"
            if topic.compacted
            else "broker's default"
            if topic.retention_ms is None
            else f"{topic.retention_ms // 86_400_000} days"
        )
        table.add_row(topic.name, topic.record, topic.key, ", ".join(topology.writers(topic)), ", ".join(topology.readers(topic)), kept)
    console.print(table)


@topics_cli.command("draw")
def topics_draw() -> None:
    """Prints the flow as a Mermaid flowchart."""
    print(_topology(_settings()).mermaid(), end="")


@schemas_cli.command("check")
def schemas_check() -> None:
    """Checks that every schema still reads all that was ever written (BACKWARD_TRANSITIVE)."""
    from schemas.compatibility import check_backward_transitive
    from schemas.store import released
    from schemas.topics import ALL

    found = [problem for topic in ALL for problem in check_backward_transitive(topic.record, released())]
    for problem in found:
        notes.print(f"[red]{problem.record} cannot read version {problem.version}: {'; '.join(problem.problems)}[/red]")
    if found:
        raise typer.Exit(1)
    notes.print("every schema reads all that was ever written")


@schemas_cli.command("lock")
def schemas_lock() -> None:
    """Adds changed schemas to the lock file as new versions, if they are compatible."""
    from schemas.store import lock
    from schemas.topics import ALL

    schemas_check()
    for one in lock(topic.record for topic in ALL):
        notes.print(f"{one.record} version {one.version} has id {one.id}")


@schemas_cli.command("generate")
def schemas_generate() -> None:
    """Writes schemas/records.py from the .avsc files."""
    import subprocess

    from schemas import generate

    target = Path(generate.__file__).with_name("records.py")
    target.write_text(generate.render())
    subprocess.run([sys.executable, "-m", "ruff", "format", "-q", str(target)], check=True)


@cli.command()
def produce(
    file: Annotated[str, typer.Argument(help="JSON lines of events, or one JSON object; '-' for standard input.")],
    rate: Annotated[float | None, typer.Option(help="Events a second; none: as fast as Kafka takes them.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first line that is not an event.")] = False,
) -> None:
    """Sends recorded events to the raw topic. Lines that are not events are reported and counted; exit status 1 if there were any."""
    from commands.inputs import recorded_lines
    from schemas.topics import RAW
    from simulator import Unreadable, read_lines
    from streams.produce import produce_records
    from streams.publish import ProduceError

    settings = _settings()
    bad: list[Unreadable] = []

    def records() -> Iterator[tuple[Any, str, Any]]:
        for one in read_lines(recorded_lines(_read_lines(file))):
            if isinstance(one, Unreadable):
                bad.append(one)
                notes.print(f"[yellow]line {one.line_no}: {one.reason}[/yellow]")
                if strict:
                    return
            else:
                yield RAW, one.event.user_id, one.event

    with _stop_on_signals() as stop, notes.status("producing") as status:
        try:
            done = produce_records(
                settings.bootstrap_servers, _codec(settings), records(), rate, lambda d: status.update(f"{d.acked:,} acked"), stop
            )
        except ProduceError as error:
            _fail(str(error))
    notes.print(f"{done.acked:,} records in Kafka, {len(bad)} lines left out")
    if bad:
        raise typer.Exit(1)


@cli.command()
def simulate(
    events: Annotated[int, typer.Option(help="How many events.")] = 10_000,
    seed: Annotated[int, typer.Option(help="The same seed gives the same events.")] = 1,
    labels: Annotated[bool, typer.Option("--labels", help="Add the ground truth as a field `label`.")] = False,
    start: Annotated[str | None, typer.Option(help="ISO 8601 time of the first event.")] = None,
    misbehaviour: Annotated[float, typer.Option(help="Share of misbehaving events.", min=0.0, max=1.0)] = 0.015,
    dirt: Annotated[float, typer.Option(help="Share of broken, late and repeated records.", min=0.0, max=1.0)] = 0.0,
    live: Annotated[bool, typer.Option("--live", help="Send to Kafka with the clock of now instead of printing.")] = False,
    rate: Annotated[float, typer.Option(help="With --live: events a second.", min=0.1)] = 50.0,
    describe: Annotated[bool, typer.Option("--describe", help="Print counts by label and type instead of the events.")] = False,
) -> None:
    """Makes viewer traffic with ground truth, as JSON lines or live into Kafka. Seeded: the same command gives the same bytes."""
    from commands import traffic

    request = traffic.Request(events=events, seed=seed, start=start, misbehaviour=misbehaviour, dirt=dirt)
    try:
        request.config()
    except ValueError as error:
        _fail(str(error))
    if live:
        settings = _settings()
        with _stop_on_signals() as stop:
            traffic.send_live(seed, settings.bootstrap_servers, _codec(settings), rate, stop)
    elif describe:
        traffic.print_summary(request, console)
    else:
        try:
            traffic.print_lines(request, labels, sys.stdout.buffer)
        except BrokenPipeError:
            sys.stderr.close()


@cli.command()
def replay(
    file: Annotated[str, typer.Argument(help="JSON lines of events; '-' for standard input.")],
    out: Annotated[Path, typer.Option(help="Folder for decisions.jsonl, alerts.jsonl, violations.jsonl and dead.jsonl.")],
) -> None:
    """Runs the whole topology in memory over recorded events. The same input gives the same bytes, on every machine of a kind.

    Every event arrives at its own time (UTC where it names no offset). `USHER_…` variables and `.env` are not read: bounds such as the
    largest event or the unknown event types are those that `docs/settings.md` lists as defaults.
    """
    from commands.inputs import inputs_of, recorded_lines
    from streams.replay import replay_to_files

    started = time.monotonic()
    with notes.status("replaying") as status:
        inputs = inputs_of(recorded_lines(_read_lines(file)), lambda one: _fail(f"line {one.line_no}: {one.reason}"))
        try:
            totals = replay_to_files(
                _default_topology(),
                inputs,
                out,
                lambda t: status.update(f"{t.events:,} events, {t.decisions:,} decisions, {t.alerts:,} alerts"),
            )
        except OSError as error:
            _fail(f"{out}: {error.strerror}")
    seconds = time.monotonic() - started
    notes.print(
        f"{totals.events:,} records: {totals.decisions:,} decisions, {totals.alerts:,} alerts, {totals.violations:,} violations, "
        f"{totals.dead_letters:,} dead letters in {seconds:.1f} s ({totals.events / max(seconds, 1e-9):,.0f}/s)"
    )


@cli.command()
def status(as_json: Annotated[bool, typer.Option("--json", help="One JSON object for programs.")] = False) -> None:
    """Shows URLs, counts, rates, how far each stage is behind, and which stages nobody runs. Exit status 1 where a part is away."""
    from commands.status import print_status, read_everything

    settings = _settings()
    found = read_everything(settings, _topology(settings))
    if as_json:
        print(json.dumps(found.as_json(), indent=2))
    else:
        print_status(found, console)
    if found.problems:
        raise typer.Exit(1)


@cli.command()
def tail(
    all_events: Annotated[bool, typer.Option("--all", help="Show allowed events too.")] = False,
    from_start: Annotated[bool, typer.Option("--from-start", help="Begin with the oldest decision Kafka holds.")] = False,
    count: Annotated[int | None, typer.Option(help="Stop after so many.")] = None,
) -> None:
    """Shows decisions as they are made, with their reasons."""
    from commands.screen import decision_line
    from schemas.topics import DECISIONS
    from streams.tail import follow

    settings = _settings()
    shown = 0
    with _stop_on_signals() as stop:
        for case in follow(settings.bootstrap_servers, _codec(settings), DECISIONS, stop, from_start):
            if case is not None and (all_events or case.verdict.outcome != "ALLOW"):
                console.print(decision_line(case))
                shown += 1
                if count is not None and shown >= count:
                    return


@cli.command("settings")
def show_settings(explain: Annotated[bool, typer.Option("--explain", help="Say what each setting means.")] = False) -> None:
    """Lists every setting with the value in force; passwords are hidden."""
    from rich.table import Table

    from streams.settings import explain as rows

    table = Table("variable", "value", *(["meaning"] if explain else []))
    for name, value, meaning in rows(_settings()):
        table.add_row(name, value, *([meaning] if explain else []))
    console.print(table)


@cli.command()
def regulations(
    as_json: Annotated[bool, typer.Option("--json", help="The packs and their strictest merge as JSON.")] = False,
    at: Annotated[str | None, typer.Option(help="Day as YYYY-MM-DD; today if not given.")] = None,
    code: Annotated[str | None, typer.Option("--for", help="Only this law (GDPR) or the laws of this place (US-CA, EU).")] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="The page docs/regulations.md.")] = False,
) -> None:
    """Shows the laws in force on a day, and the strictest requirement of all with its source."""
    from datetime import UTC, date, datetime

    from commands.screen import print_laws
    from rules.packs import load_packs
    from rules.regulation_docs import render_regulations
    from rules.requirements import UnknownCode, regulations_json, select_packs

    try:
        day = date.fromisoformat(at) if at else datetime.now(UTC).date()
    except ValueError:
        _fail(f"--at {at}: not a day as YYYY-MM-DD")
    packs = load_packs()
    if markdown:
        print(render_regulations(packs), end="")
        return
    found = regulations_json(packs, day, code)
    laws = select_packs(packs, day, code)
    if isinstance(found, UnknownCode) or isinstance(laws, UnknownCode):
        _fail(f"{code} is neither a law nor a place of any pack; laws are: {', '.join(one.code for one in packs.laws)}")
    if as_json:
        print(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        print_laws(laws, console)


@cli.command()
def inspect() -> None:
    """Reads JSON lines {"text": …} and says for each whether it carries an attack, with the validator's own detector."""
    import orjson

    from rules.inspect import inspect_line

    for line_no, line in enumerate(sys.stdin.buffer, 1):
        if not line.strip():
            continue
        try:
            text = orjson.loads(line)["text"]
        except (ValueError, KeyError, TypeError):
            _fail(f'line {line_no} is not an object with a "text"')
        found = inspect_line(str(text))
        sys.stdout.buffer.write(orjson.dumps({"verdict": found.verdict, "kinds": list(found.kinds)}) + b"\n")


@evaluate_cli.command("anomaly")
def evaluate_anomaly(file: Annotated[Path, typer.Argument(help="An .npz file with arrays X and y.")]) -> None:
    """Ranks the rows by the ensemble, each before it is learned, and prints ROC-AUC and average precision as JSON."""
    import msgspec

    from commands.evaluate import UnreadableFile, anomaly_report

    try:
        print(msgspec.json.encode(anomaly_report(file)).decode())
    except UnreadableFile as error:
        _fail(str(error))


@evaluate_cli.command("decisions")
def evaluate_decisions(file: Annotated[str, typer.Argument(help="JSON lines of events with a `label`; '-' for standard input.")]) -> None:
    """Replays labelled events through all stages and prints precision, recall and delays as JSON.

    As `usher replay`, it takes the settings' defaults and reads no environment. Lines that are not events end it with exit status 1.
    """
    import msgspec

    from commands.evaluate import decision_report

    with notes.status("replaying"):
        report = decision_report(_default_topology(), _read_lines(file), lambda one: _fail(f"line {one.line_no}: {one.reason}"))
    print(msgspec.json.encode(report).decode())


@evaluate_cli.command("inspect")
def evaluate_inspect(file: Annotated[Path, typer.Argument(help="JSON lines with `text`, `kind` and `src`, also gzipped.")]) -> None:
    """Prints how many attacks are found and how much clean text is flagged, by kind and source."""
    from commands.evaluate import UnreadableFile, inspection_report
    from rules.inspect_evaluate import render_table

    try:
        table, cost_us = inspection_report(file)
    except UnreadableFile as error:
        _fail(str(error))
    print(render_table(table))
    notes.print(f"{cost_us:.1f} µs a text")


@contextmanager
def _kafka_needed() -> Iterator[None]:
    """Ends the command with one line where Kafka is away or takes nothing."""
    from confluent_kafka import KafkaException

    from streams.publish import ProduceError

    try:
        yield
    except KafkaException as error:
        _fail(f"Kafka: {error.args[0].str()}")
    except (ProduceError, TimeoutError) as error:
        _fail(f"Kafka: {error}")


def _topic_called(name: str) -> Topic:
    from commands.dead import topic_called

    try:
        return topic_called(name)
    except KeyError:
        _fail(f"there is no topic {name}; see `usher topics list`")


@dead_cli.command("list")
def dead_list() -> None:
    """Counts dead letters by topic, stage and reason."""
    from rich.table import Table

    from commands.dead import count_reasons, read_dead
    from schemas.topics import ALL

    table = Table("topic", "stage", "reason", "letters")
    with _kafka_needed():
        counts = count_reasons(read_dead(_settings().bootstrap_servers, ALL))
    for (topic, stage, reason), count in counts.most_common():
        table.add_row(topic, stage, reason, f"{count:,}")
    console.print(table)


@dead_cli.command("show")
def dead_show(
    topic: Annotated[str, typer.Argument(help="Topic the records were refused on.")] = "ott.events.raw.v1",
    count: Annotated[int, typer.Option(help="How many of the newest.", min=1)] = 10,
    reason: Annotated[str | None, typer.Option(help="Only with this reason.")] = None,
) -> None:
    """Shows the newest dead letters of a topic: reasons, where they lie, and the record as far as it can be read."""
    import heapq

    from rich.text import Text

    from commands.dead import read_dead, readable

    settings = _settings()
    wanted = _topic_called(topic)
    with _kafka_needed():
        letters = (one for one in read_dead(settings.bootstrap_servers, [wanted]) if reason is None or reason in one.reasons)
        newest = heapq.nlargest(count, letters, key=lambda one: (one.timestamp_ms, one.partition, one.offset))
    codec = _codec(settings)
    for one in reversed(newest):
        line = Text(f"{one.topic.dead} {one.partition}:{one.offset}", style="bold")
        line.append(f" by {one.stage}, attempt {one.attempts}: {one.message}", style="not bold")
        console.print(line)
        console.print(readable(one, codec), markup=False, highlight=False)


@dead_cli.command("replay")
def dead_replay(
    topic: Annotated[str, typer.Argument(help="Topic the records were refused on.")] = "ott.events.raw.v1",
    reason: Annotated[str | None, typer.Option(help="Only with this reason.")] = None,
    max_attempts: Annotated[int, typer.Option(help="Leave records that have been tried so often.", min=1)] = 3,
    again: Annotated[bool, typer.Option("--all", help="Send what earlier replays took, too.")] = False,
) -> None:
    """Sends dead letters back, after what refused them was mended. Bytes are untouched, attempts are counted.

    A second call sends only letters that came since: Kafka keeps how far the first one got, in consumer group `usher-dead-replay`, as
    long as the broker keeps offsets (`offsets.retention.minutes`, 7 days by default). Letters of events that were already counted cannot be
    sent back and are named.
    """
    from commands.dead import replay_dead

    settings = _settings()
    wanted = _topic_called(topic)
    with _kafka_needed():
        done = replay_dead(settings.bootstrap_servers, _codec(settings), wanted, reason, max_attempts, again)
    notes.print(f"{done.sent:,} sent back")
    if done.earlier:
        notes.print(f"{done.earlier:,} passed over: an earlier replay took them (--all sends them again)")
    if done.exhausted:
        notes.print(
            f"{done.exhausted:,} left: they were tried {max_attempts} times (--all --max-attempts {max_attempts + 1} tries once more)"
        )
    for why, count in done.refused.items():
        notes.print(f"{count:,} cannot be sent back: {why}", style="yellow", markup=False)


@cli.command()
def docs(
    tables: Annotated[bool, typer.Option("--tables", help="docs/tables.md too, from the migrated database at USHER_POSTGRES_DSN.")] = False,
) -> None:
    """Writes the generated documents under docs/."""
    from commands.docs import TABLES, write_all, write_tables

    changed = write_all()
    if tables:
        import psycopg

        try:
            changed += [TABLES] if write_tables(_settings().postgres_dsn) else []
        except psycopg.Error as error:
            _fail(f"Postgres: {error}")
    notes.print(f"written: {', '.join(changed)}" if changed else "every generated document is current")


def main() -> None:
    """Entry point of the `usher` command."""
    cli()


if __name__ == "__main__":
    main()
