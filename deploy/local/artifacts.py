"""Fetches what Maven carries into a cache that all checkouts share, once for each content of a pom."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from deploy.local.errors import PlatformError
from deploy.local.processes import Launch, ProcessManager
from deploy.local.runtimes import Java, find_maven

FETCH_TIMEOUT_S = 600.0
LOCK_POLL_S = 0.2
# Where systems keep the authorities they trust, in Java's form. The wheel's Java knows only the public ones, not those of a company.
TRUST_STORES = (Path("/etc/ssl/certs/java/cacerts"), Path("/etc/pki/java/cacerts"))
_DOWNLOADED = re.compile(r"Downloaded from \S+: \S*/(?P<file>[^/\s]+\.(?:jar|tar\.gz)) \((?P<size>[^)]*?) at ")


@dataclass(frozen=True, slots=True)
class Artifact:
    """What a pom fetches.

    Attributes:
        name: names the cache folder and, after `fetch-`, the log.
        pom: the committed pom.
        goal: the goal of Maven's dependency plugin: copy-dependencies or unpack.
        size: what is said to the person who waits, such as "43 MB".
    """

    name: str
    pom: Path
    goal: str
    size: str


def cache_root(environ: Mapping[str, str] = os.environ) -> Path:
    """USHER_CACHE_DIR, else usher in XDG_CACHE_HOME, else ~/.cache/usher."""
    if own := environ.get("USHER_CACHE_DIR"):
        return Path(own).expanduser().absolute()
    if xdg := environ.get("XDG_CACHE_HOME"):
        return Path(xdg) / "usher"
    return Path.home() / ".cache" / "usher"


def cache_key(artifact: Artifact) -> str:
    """The folder's name: the artifact's and a digest of goal and pom, so that a changed pom is fetched anew."""
    digest = hashlib.sha256(artifact.goal.encode() + b"\0" + artifact.pom.read_bytes()).hexdigest()
    return f"{artifact.name}-{digest[:12]}"


def downloaded(line: str) -> str | None:
    """`kafka-clients-4.4.0.jar, 9.9 MB` for Maven's line about a finished download of an archive, None for other lines."""
    match = _DOWNLOADED.search(line)
    return f"{match['file']}, {match['size']}" if match else None


def maven_environment(environ: Mapping[str, str], java: Java, trust_stores: Sequence[Path] = TRUST_STORES) -> Mapping[str, str]:
    """What Maven has to be told: nothing on a machine with a Java of its own, else to use ours and to trust whom the machine trusts."""
    if environ.get("JAVA_HOME") or shutil.which("java", path=environ.get("PATH")):
        return {}
    options = [environ.get("MAVEN_OPTS", ""), *(f"-Djavax.net.ssl.trustStore={store}" for store in trust_stores if store.exists())]
    return {"JAVA_HOME": str(java.home), "MAVEN_OPTS": " ".join(options[:2]).strip()}


def fetch(artifact: Artifact, java: Java, processes: ProcessManager, cache: Path, say: Callable[[str], None]) -> Path:
    """The folder with the artifact's files, fetched first where the cache does not have it.

    A folder that is there is complete: Maven works in a temporary one, which is renamed at the end. A lock keeps two starts from
    fetching at once; the second waits and finds the folder.

    Args:
        say: told what is being downloaded.

    Raises:
        PlatformError: Maven is missing or failed, or the cache cannot be written.
    """
    folder = cache / cache_key(artifact)
    if folder.is_dir():
        return folder
    maven = find_maven()
    try:
        cache.mkdir(parents=True, exist_ok=True)
        lock = open(cache / f"{folder.name}.lock", "w")  # noqa: SIM115 - closed by the with below
    except OSError as error:
        raise PlatformError(
            f"the cache folder {cache} cannot be written: {error.strerror}", "set USHER_CACHE_DIR to a folder that can"
        ) from error
    with lock:
        say(f"downloading {artifact.name} ({artifact.size}, once)")
        _wait_for(lock, processes)
        if folder.is_dir():
            return folder
        for stale in cache.glob(f"{folder.name}.part-*"):
            shutil.rmtree(stale, ignore_errors=True)
        part = Path(tempfile.mkdtemp(prefix=f"{folder.name}.part-", dir=cache))
        _run_maven(artifact, maven, java, processes, part, say)
        part.chmod(0o755)
        part.rename(folder)
    return folder


def _wait_for(lock: IO[str], processes: ProcessManager) -> None:
    """Waits for another start that is fetching, unless this one is being stopped."""
    while processes.is_open:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(LOCK_POLL_S)
        else:
            return


def _run_maven(artifact: Artifact, maven: Path, java: Java, processes: ProcessManager, folder: Path, say: Callable[[str], None]) -> None:
    count = 0

    def on_line(line: str) -> None:
        nonlocal count
        if what := downloaded(line):
            count += 1
            say(f"downloading {artifact.name}: {count} files, last {what}")

    launch = Launch(
        name=f"fetch-{artifact.name}",
        argv=(
            str(maven), "-B", "-f", str(artifact.pom), f"dependency:{artifact.goal}", f"-DoutputDirectory={folder}",
            "-Dmaven.wagon.http.retryHandler.count=3", "-Daether.connector.http.retryHandler.count=3",
        ),
        env=maven_environment(os.environ, java),
    )  # fmt: skip
    done = processes.run(launch, FETCH_TIMEOUT_S, on_line)
    if done.exit_code != 0 or not any(folder.iterdir()):
        shutil.rmtree(folder, ignore_errors=True)
        errors = [line for line in done.output.splitlines() if "ERROR" in line][:1]
        raise PlatformError(
            f"Maven could not fetch {artifact.name}: {errors[0][:300] if errors else f'exit code {done.exit_code}'}",
            f"check the network and Maven's settings, then start again; details: {processes.log_path(launch.name)}",
        )
