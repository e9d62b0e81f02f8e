"""The compose file and the image hold together: no engine is needed to see that."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

import usher
from deploy.local.schema_registry import API
from streams.settings import Settings
from streams.topology import make_topology

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.kafka.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if "build" in service}
DOCKERFILE = (ROOT / "deploy" / "image" / "Dockerfile").read_text()
PINNED = re.compile(r"^[a-z0-9./-]+:\d+\.\d+[\w.-]*$")


def test_there_is_everything_that_a_run_needs() -> None:
    assert {"kafka", "postgres", "valkey", "registry"} == set(SERVICES) - set(OURS)
    assert {"topics", "migrations", "worker-main", "worker-network", "sink-postgres", "sink-redis", "api", "traffic"} == set(OURS)


@pytest.mark.parametrize("name", SERVICES)
def test_images_are_pinned(name: str) -> None:
    assert PINNED.match(SERVICES[name]["image"])


@pytest.mark.parametrize("name", OURS)
def test_every_command_of_ours_is_one_of_usher(name: str) -> None:
    command = typer.main.get_command(usher.cli)
    arguments = OURS[name]["command"]
    while hasattr(command, "commands"):
        assert arguments[0] in command.commands, f"usher has no {arguments[0]}"
        command, arguments = command.commands[arguments[0]], arguments[1:]
    # Parsing it all finds options that do not exist.
    command.make_context("usher", list(arguments))


def test_the_workers_run_every_stage_once() -> None:
    stages = [stage for service in OURS.values() if service["command"][0] == "worker" for stage in service["command"][1:]]
    assert sorted(stages) == sorted(stage.name for stage in make_topology(Settings(_env_file=None)).stages)


@pytest.mark.parametrize("name", SERVICES)
def test_what_goes_on_running_has_a_health_check(name: str) -> None:
    service = SERVICES[name]
    if service["restart"] != "no":
        assert "healthcheck" in service


@pytest.mark.parametrize("name", OURS)
def test_every_variable_is_a_setting(name: str) -> None:
    known = {f"USHER_{field.upper()}" for field in Settings.model_fields}
    assert set(OURS[name]["environment"]) <= known
    assert set(re.findall(r"\bUSHER_\w+(?==)", DOCKERFILE)) <= known


@pytest.mark.parametrize("name", OURS)
def test_ours_run_without_rights(name: str) -> None:
    service = OURS[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "USER 10001:10001" in DOCKERFILE


def test_no_password_has_a_default() -> None:
    text = (ROOT / "docker-compose.kafka.yml").read_text()
    uses = re.findall(r"\$\{(\w*PASSWORD\w*)(.)", text)
    assert uses
    assert {after for _, after in uses} == {":"}
    assert not re.search(r"PASSWORD:-", text)


def test_ports_are_open_to_this_machine_only() -> None:
    for service in SERVICES.values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))


def test_dependencies_and_volumes_exist() -> None:
    for service in SERVICES.values():
        assert set(service.get("depends_on", ())) <= set(SERVICES)
        named = {volume.split(":")[0] for volume in service.get("volumes", ())}
        assert named <= set(COMPOSE["volumes"])


def test_the_registry_s_address_is_that_of_its_confluent_api() -> None:
    assert f"USHER_REGISTRY_URL=http://registry:8080{API}" in (ROOT / "docker-compose.kafka.yml").read_text()


def test_the_image_copies_every_package_and_checks_hashes() -> None:
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"bench", "tests"}
    copied = set(re.findall(r"^COPY (\w+) \w+$", DOCKERFILE, re.MULTILINE))
    assert copied == packages
    ignore = (ROOT / "deploy" / "image" / "Dockerfile.dockerignore").read_text()
    assert all(f"!{package}\n" in ignore for package in packages)
    assert "--require-hashes" in DOCKERFILE
