"""Fixtures for all tests. Integration tests share one real Kafka, Postgres and Valkey for the session."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from schemas.records import Event, Origin, RawEvent


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Real servers on free ports; gone when the session ends."""
    from deploy.local.platform import LocalPlatform

    with LocalPlatform(Path(tmp_path_factory.mktemp("platform"))) as running:
        yield running


def make_raw(**changes: Any) -> RawEvent:
    """A raw event that is in order, with changes."""
    fields: dict[str, Any] = {
        "event_id": "evt-1", "user_id": "user-1", "device_id": "tv-1", "content_id": "movie-1", "event_type": "PLAY", "timestamp": 1_780_000_000_000,
        "region": "NL", "is_eu": True, "has_consent": True, "ip_address": "203.0.113.10", "subscription_plan": "premium",
    }  # fmt: skip
    return RawEvent(**(fields | changes))


def make_event(**changes: Any) -> Event:
    """A valid event in normal form, with changes."""
    fields: dict[str, Any] = {
        "event_id": "evt-1", "tenant_id": "default", "user_id": "user-1", "device_id": "tv-1", "content_id": "movie-1", "event_type": "PLAY",
        "timestamp": 1_780_000_000_000, "received_at": 1_780_000_000_500, "region": "NL", "is_eu": True, "has_consent": True,
        "ip_address": "203.0.113.10", "subscription_plan": "premium", "origin": Origin(partition=0, offset=1),
    }  # fmt: skip
    return Event(**(fields | changes))


@pytest.fixture
def raw() -> Any:
    """The maker of raw events."""
    return make_raw


@pytest.fixture
def event() -> Any:
    """The maker of valid events."""
    return make_event
