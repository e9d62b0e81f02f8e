"""Apicurio: a schema registry with Confluent's API, run only when asked for (ids come from a committed lock file otherwise)."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import httpx
import psutil

from deploy.local.artifacts import Artifact, fetch
from deploy.local.errors import PlatformError
from deploy.local.ports import HOST
from deploy.local.processes import Launch
from deploy.local.runtimes import Java, find_java
from deploy.local.server import Server, Site

APICURIO = Artifact("registry", Path(__file__).parent / "registry" / "pom.xml", "unpack", "109 MB")
USUAL_PORT = 8081
API = "/apis/ccompat/v7"
COMPATIBILITY = "BACKWARD_TRANSITIVE"
PROBE_TIMEOUT_S = 2.0
JVM_OPTIONS = ("-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")


class RegistryServer(Server):
    """Apicurio with its content in a file of `registry/` (an H2 database), so that ids outlive a restart."""

    name = "registry"
    ready_timeout_s = 90.0

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self._folder: Path | None = None
        self._java: Java | None = None
        self._port = 0

    @property
    def address(self) -> str:
        """The base URL of Confluent's API."""
        return f"http://{HOST}:{self._port}{API}"

    def prepare(self, say: Callable[[str], None]) -> None:
        self._java = find_java()
        self._folder = fetch(APICURIO, self._java, self.site.processes, self.site.cache, say)
        self.home.mkdir(parents=True, exist_ok=True)

    def assign_ports(self) -> tuple[int, ...]:
        self._port = self.site.ports.assign("registry", USUAL_PORT)
        return (self._port,)

    def launch(self) -> Launch:
        if self._java is None or self._folder is None:
            raise RuntimeError("prepare comes first")
        jars = sorted(self._folder.glob("apicurio-registry-app-*-runner.jar"))
        if not jars:
            raise PlatformError(f"{self._folder} has no runner jar", f"remove {self._folder} and start again")
        return Launch(
            self.name,
            (str(self._java.program), *JVM_OPTIONS, "-jar", str(jars[0])),
            env={
                "QUARKUS_HTTP_HOST": HOST,
                "QUARKUS_HTTP_PORT": str(self._port),
                "APICURIO_STORAGE_KIND": "sql",
                "APICURIO_STORAGE_SQL_KIND": "h2",
                # H2 writes half a second late by default: after a kill -9 the id of the latest schema would be given out again.
                "APICURIO_DATASOURCE_URL": f"jdbc:h2:file:{(self.home / 'content').absolute()};WRITE_DELAY=0",
                "QUARKUS_LOG_LEVEL": "WARN",
            },
            cwd=self.home,
            stop_signal=signal.SIGTERM,
            stop_timeout_s=15.0,
        )

    def probe(self, pid: int) -> bool:
        try:
            answer = httpx.get(f"{self.address}/config", timeout=PROBE_TIMEOUT_S)
            listeners = {each.laddr.port for each in psutil.Process(pid).net_connections("tcp") if each.status == psutil.CONN_LISTEN}
        except (httpx.HTTPError, psutil.NoSuchProcess):
            return False
        return answer.status_code == httpx.codes.OK and self._port in listeners

    def settle(self) -> None:
        # Apicurio checks nothing by default.
        answer = httpx.put(f"{self.address}/config", json={"compatibility": COMPATIBILITY}, timeout=10.0)
        if answer.status_code != httpx.codes.OK:
            raise PlatformError(f"the registry did not take its compatibility rule: HTTP {answer.status_code}", "see the registry's log")
