"""Health, metrics, the OpenAPI document, and problems that no route made."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

import api as package
from api.openapi import EXAMPLE, event_schema
from api.operations import Check, Health
from api.problems import pointer
from api.ratelimit import Allowance
from api.settings import IngestSettings
from schemas.jsonevents import event_from_json
from schemas.records import RawEvent
from tests.api_fakes import EVENT, served


def answering(answers: dict[str, str], name: str) -> Check:
    async def ask() -> str:
        return answers[name]

    return Check(name, ask, needed=name != "redis")


async def test_ready_names_every_part_and_needs_only_some() -> None:
    answers = {"kafka": "ok", "redis": "ok"}
    now = [0.0]
    checks = [answering(answers, name) for name in answers]
    health = Health(checks, clock=lambda: now[0])

    async def ready() -> tuple[int, Any]:
        response = await health.ready(None)  # type: ignore[arg-type]
        return response.status_code, msgspec.json.decode(response.body)

    assert await ready() == (200, {"status": "ok", "parts": {"kafka": "ok", "redis": "ok"}})
    answers.update(redis="away", kafka="away")
    assert (await ready())[0] == 200  # asked at most once a second
    now[0] += 1.1
    assert await ready() == (503, {"status": "not ready", "parts": {"kafka": "away", "redis": "away"}})
    answers["kafka"] = "ok"
    now[0] += 1.1
    assert await ready() == (200, {"status": "ok", "parts": {"kafka": "ok", "redis": "away"}})


async def test_live_until_only_a_new_start_helps() -> None:
    wrong: list[str] = []
    async with served(fatal=lambda: wrong[0] if wrong else None) as api:
        assert (await api.http.get("/health/live")).json() == {"status": "ok"}
        wrong.append("fenced")
        response = await api.http.get("/health/live")
        assert (response.status_code, response.json()["detail"]) == (503, "fenced")


async def test_requests_are_counted_by_route_and_not_by_path() -> None:
    async with served(pending=lambda: 3) as api:
        await api.send(EVENT)
        await api.http.get("/v1/users/someone")
        await api.http.request("BREW", "/v1/events")
        assert api.counted("usher_api_requests_total", method="POST", route="/v1/events", status="202") == 1
        assert api.counted("usher_api_requests_total", method="GET", route="unmatched", status="404") == 1
        assert api.counted("usher_api_requests_total", method="other", route="/v1/events", status="405") == 1
        text = (await api.http.get("/metrics")).text
        assert "usher_api_events_pending 3.0" in text
        assert "someone" not in text


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/nothing", 404), ("GET", "/v1/events", 405)])
async def test_other_errors_are_problems_too(method: str, path: str, status: int) -> None:
    async with served() as api:
        response = await api.http.request(method, path)
        assert (response.status_code, response.headers["content-type"]) == (status, "application/problem+json")
        assert response.json()["instance"] == "urn:uuid:" + response.headers["x-request-id"]
        if status == 405:
            assert response.headers["allow"] == "POST"


async def test_parts_are_closed_with_the_application() -> None:
    closed: list[str] = []

    async def close() -> None:
        closed.append("producer")

    async with served(close=(close,)) as api:
        app: Any = api.http._transport.app  # type: ignore[attr-defined]
        async with app.router.lifespan_context(app):
            assert closed == []
    assert closed == ["producer"]


async def test_the_document_says_what_the_endpoint_takes() -> None:
    async with served(IngestSettings(max_events=77)) as api:
        document: dict[str, Any] = (await api.http.get("/openapi.json")).json()
        assert document == (await api.http.get("/openapi.json")).json()
        operation = document["paths"]["/v1/events"]["post"]
        assert set(operation["responses"]) == {"202", "400", "401", "403", "408", "409", "413", "415", "422", "429", "503"}
        content = operation["requestBody"]["content"]
        assert set(content) == {"application/json", "application/vnd.confluent.avro", "avro/binary"}
        assert content["application/json"]["schema"]["anyOf"][1]["maxItems"] == 77
        for example in content["application/json"]["examples"].values():
            assert (await api.send(example["value"])).status_code == 202
        for name in ("RawEvent", "Problem", "Accepted"):
            assert name in document["components"]["schemas"]
        assert (await api.http.get("/docs")).status_code == 404


def test_the_document_s_event_is_the_record() -> None:
    schema = event_schema()
    fields = msgspec.structs.fields(RawEvent)
    assert list(schema["properties"]) == [field.name for field in fields]
    assert schema["required"] == [field.name for field in fields if field.required]
    assert schema["properties"]["timestamp"]["type"] == ["integer", "string"]
    assert schema["properties"]["extra_metadata"]["type"] == ["null", "string", "object"]
    assert isinstance(event_from_json(EXAMPLE), RawEvent)


def test_every_code_of_a_problem_is_documented_and_no_other() -> None:
    root = Path(package.__file__).parent
    raised = {
        code
        for file in root.glob("*.py")
        for code in re.findall(r'(?:Problem\(\d{3}, |_away\(|return Problem\(\s*\d{3},\s*)"([a-z0-9-]+)"', file.read_text())
    }
    table = (root.parent / "docs" / "ingest.md").read_text().partition("## Problems")[2].partition("\n## ")[0]
    documented = {
        code
        for line in table.splitlines()
        if line.startswith("| ")
        for code in re.findall(r"`([a-z]+-[a-z-]+|unauthorised|forbidden|disconnected)`", line.split("|")[2])
    }
    assert raised == documented


def test_pointers_are_escaped() -> None:
    assert pointer() == "#"
    assert pointer("events", 3, "a/b~c d") == "#/events/3/a~1b~0c%20d"


def test_what_the_limit_says_in_headers() -> None:
    headers = Allowance(False, 100, 4, 61, 17).headers(59.2)
    assert headers["RateLimit-Policy"] == '"events";q=100;w=60'
    assert headers["RateLimit"] == '"events";r=4;t=61'
    assert headers["Retry-After"] == "17"
    assert "Retry-After" not in Allowance(True, 100, 4, 61).headers(60)


@pytest.mark.parametrize("changes", [{"max_events": 0}, {"window_s": -1.0}, {"idempotency_lease_s": 5.0}, {"idempotency_ttl_s": 30.0}])
def test_settings_out_of_range_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(changes)).split("_")[0]):
        IngestSettings(**changes)


async def test_a_client_that_leaves_is_no_error() -> None:
    async with served() as api:
        app: Any = api.http._transport.app  # type: ignore[attr-defined]
        sent: list[Any] = []
        scope = {"type": "http", "method": "POST", "path": "/v1/events", "raw_path": b"/v1/events", "query_string": b"", "http_version": "1.1", "scheme": "http",
                 "headers": [(name.lower(), value) for name, value in httpx.Headers({"x-api-key": api.http.headers["x-api-key"], "content-type": "application/json"}).raw]}  # fmt: skip

        async def receive() -> Any:
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        await app(scope, receive, send)
        assert sent[0]["status"] == 400
        assert api.counted("usher_api_problems_total", code="disconnected") == 1
        assert api.log.records == []
