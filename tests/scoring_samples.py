"""Events and profiles for the tests of scoring."""

from __future__ import annotations

from itertools import count
from typing import Any

from schemas.codec import Case
from schemas.records import Compliance, Event, Origin
from tables.profile import Observation, Profile, observe

START_S = 1_760_000_000
HOUR_S = 3_600
DAY_S = 86_400
COMPLIANCE = Compliance(laws=(), purpose="service", consent="GRANTED", breaches=(), rules_version="1", checked_at=0)
_OFFSETS = count()


def event(at_s: float, kind: str = "PLAY", **changes: Any) -> Event:
    """An event of user u1 on device tv at home in the Netherlands, `at_s` seconds after START_S."""
    at_ms = int((START_S + at_s) * 1000)
    offset = changes.pop("offset", None)
    fields: dict[str, Any] = {
        "event_id": f"e{at_ms}",
        "tenant_id": "default",
        "user_id": "u1",
        "device_id": "tv",
        "content_id": "film",
        "event_type": kind,
        "timestamp": at_ms,
        "received_at": at_ms,
        "region": "NL",
        "is_eu": True,
        "has_consent": True,
        "ip_address": "203.0.113.10",
        "subscription_plan": "premium",
        "session_id": "s1",
        "origin": Origin(partition=0, offset=next(_OFFSETS) if offset is None else offset),
    }
    return Event(**{**fields, **changes})


def case(one: Event) -> Case:
    """The event as compliance hands it on."""
    return Case(one, COMPLIANCE, parts=(b"event", b"compliance"))


def watch(profile: Profile, *events: Event) -> Observation:
    """Takes events up; returns what the last one looked like."""
    for one in events:
        seen = observe(profile, one)
    return seen


def settled(days: int = 10) -> Profile:
    """A user with a past: the television at home, an hour every evening for so many days."""
    profile = Profile()
    for day in range(days):
        for minute in range(0, 60, 5):
            observe(profile, event(day * DAY_S + minute * 60, "PLAY" if minute == 0 else "HEARTBEAT"))
        observe(profile, event(day * DAY_S + HOUR_S, "STOP"))
    return profile
