"""How the platform starts and stops servers, with small programs in the place of Kafka and the others."""

from __future__ import annotations

import io
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from deploy.local import LocalPlatform, PlatformError, clean, platform
from deploy.local.database import BELONGS_TO, PLACE_PREFIX, remove_abandoned
from deploy.local.ports import HOST
from deploy.local.processes import Launch
from deploy.local.progress import Phase, Progress, shown
from deploy.local.server import Server

LISTEN = (
    "import socket, sys, time; s = socket.create_server(('127.0.0.1', int(sys.argv[1]))); print('up', flush=True)\nwhile True: s.accept()"
)
FAIL = "print('no such luck'); raise SystemExit(4)"


def _usual_port() -> int:
    with socket.create_server((HOST, 0)) as listener:
        return int(listener.getsockname()[1])


class Listener(Server):
    """Listens, and is ready once it does."""

    code = LISTEN
    lost = 0
    """How often somebody takes the port after it was chosen."""

    @property
    def address(self) -> str:
        return f"{HOST}:{self.port}"

    def prepare(self, say: Callable[[str], None]) -> None:
        say("something")
        self.port = _usual_port()
        self.thieves: list[socket.socket] = []

    def assign_ports(self) -> tuple[int, ...]:
        self.port = self.site.ports.assign(self.name, self.port)
        if len(self.thieves) < self.lost:
            self.thieves.append(socket.create_server((HOST, self.port)))
        return (self.port,)

    def launch(self) -> Launch:
        return Launch(self.name, (sys.executable, "-c", self.code, str(self.port)))

    def probe(self, pid: int) -> bool:
        log = self.site.processes.log_path(self.name)
        return log.exists() and "up" in log.read_text()


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Puts listeners in the place of the servers; what is set on a class here shapes its server."""
    kinds: dict[str, Any] = {name: type(name.title(), (Listener,), {"name": name}) for name in ("kafka", "valkey")}
    for name, kind in kinds.items():
        monkeypatch.setitem(platform.SERVERS, name, kind)  # type: ignore[arg-type]
    return kinds


@pytest.mark.usefixtures("servers")
def test_servers_start_stop_and_are_told_of(tmp_path: Path) -> None:
    steps: list[Progress] = []
    with LocalPlatform(tmp_path, ("kafka", "valkey"), steps.append) as running:
        assert running.services == ("kafka", "valkey")
        assert running.dead() == []
        assert running.addresses.bootstrap_servers == running.bootstrap_servers
        assert running.addresses.postgres_dsn is None
        for name in running.services:
            assert [step.phase for step in steps if step.service == name] == [Phase.PREPARING, Phase.PREPARING, Phase.STARTING, Phase.READY]
        running.kill("kafka")
        assert running.dead() == ["kafka"]
    assert [step.phase for step in steps[-2:]] == [Phase.STOPPED, Phase.STOPPED]
    with pytest.raises(RuntimeError, match="has not been started"):
        running.kill("kafka")


def test_a_port_that_is_lost_between_choice_and_use_is_replaced(tmp_path: Path, servers: dict[str, Any]) -> None:
    servers["valkey"].lost = 2
    with LocalPlatform(tmp_path, ("valkey",)) as running:
        assert running.dead() == []


def test_after_three_lost_ports_it_gives_up(tmp_path: Path, servers: dict[str, Any]) -> None:
    servers["valkey"].lost = 3
    with pytest.raises(PlatformError, match="valkey ended with exit code 1"):
        LocalPlatform(tmp_path, ("valkey",)).start()


def test_one_that_fails_takes_the_others_down_and_shows_its_log(tmp_path: Path, servers: dict[str, Any]) -> None:
    servers["kafka"].code = FAIL
    steps: list[Progress] = []
    with pytest.raises(PlatformError, match=r"kafka ended with exit code 4(?s:.*)no such luck") as raised:
        LocalPlatform(tmp_path, ("kafka", "valkey"), steps.append).start()
    assert str(tmp_path / "logs" / "kafka.log") in raised.value.remedy
    assert {step.service for step in steps if step.phase is Phase.FAILED} == {"kafka"}
    assert list((tmp_path / "run").glob("*.pid")) == []
    # The folder is free again.
    servers["kafka"].code = LISTEN
    with LocalPlatform(tmp_path, ("kafka",)):
        assert not clean(tmp_path), "not while it is in use"
    assert clean(tmp_path)
    assert not tmp_path.exists()


def test_one_that_never_serves_is_given_up(tmp_path: Path, servers: dict[str, Any]) -> None:
    servers["valkey"].ready_timeout_s = 0.05
    servers["valkey"].code = "import signal; signal.pause()"
    with pytest.raises(PlatformError, match="did not serve within"):
        LocalPlatform(tmp_path, ("valkey",)).start()


def test_ctrl_c_while_starting_leaves_nothing(tmp_path: Path, servers: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    servers["valkey"].code = "import signal; signal.pause()"

    def interrupted(*args: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(platform, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        LocalPlatform(tmp_path, ("valkey",)).start()
    assert list((tmp_path / "run").glob("*.pid")) == []


def test_a_service_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unknown services"):
        LocalPlatform(tmp_path, ("kafak",))


def test_an_address_is_only_given_for_what_runs(tmp_path: Path) -> None:
    asked = LocalPlatform(tmp_path, ("valkey",))
    with pytest.raises(RuntimeError, match="has not been started"):
        _ = asked.redis_url
    with pytest.raises(RuntimeError, match="not among the services"):
        _ = asked.postgres_dsn


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_is_shown_on_terminals_and_elsewhere(terminal: bool) -> None:
    out = io.StringIO()
    with shown(Console(file=out, force_terminal=terminal, width=100)) as report:
        report(Progress("kafka", Phase.PREPARING, "downloading kafka: 1 files", 0.1))
        report(Progress("kafka", Phase.PREPARING, "downloading kafka: 2 files", 0.2))
        report(Progress("valkey", Phase.READY, "redis://127.0.0.1:6379/0", 0.3))
        report(Progress("kafka", Phase.FAILED, "", 0.4))
    text = out.getvalue()
    assert "ready: redis://127.0.0.1:6379/0" in text
    assert "failed" in text
    if not terminal:
        assert "\x1b" not in text
        assert text.count("downloading") == 1, "files that follow at once are not lines of their own"


def test_places_whose_data_folder_is_gone_are_removed(tmp_path: Path) -> None:
    def place(name: str, note: Path) -> Path:
        folder = tmp_path / f"{PLACE_PREFIX}{name}"
        folder.mkdir()
        (folder / BELONGS_TO).write_text(str(note))
        return folder

    kept, gone = place("kept", tmp_path / "location"), place("gone", tmp_path / "no-such-note")
    (tmp_path / "location").write_text(str(kept))
    replaced = place("replaced", tmp_path / "location")
    assert set(remove_abandoned(tmp_path)) == {gone, replaced}
    assert kept.exists()
    assert not gone.exists()
