"""POST /v1/events on fakes: what is taken, what is refused and how it is said."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from api.clients import key_digest
from api.settings import IngestSettings
from schemas.codec import Codec
from tests.api_fakes import DIGEST, EVENT, KEY, Served, away, events, served


@pytest.fixture
async def api() -> AsyncIterator[Served]:
    async with served() as found:
        yield found


def code(response: Any) -> str:
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["status"] == response.status_code
    assert problem["instance"] == "urn:uuid:" + response.headers["x-request-id"]
    assert problem["title"]
    assert problem["detail"]
    found: str = problem["type"].removeprefix("urn:usher:problem:")
    return found


def errors(response: Any) -> list[tuple[str, str]]:
    return [(error["pointer"], error["code"]) for error in response.json()["errors"]]


@pytest.mark.parametrize("body", [EVENT, [EVENT], {"events": [EVENT]}])
async def test_one_event_is_in_kafka_when_it_is_accepted(api: Served, body: Any) -> None:
    response = await api.send(body)
    assert response.status_code == 202
    assert response.json() == {"accepted": 1, "event_ids": ["evt-1"]}
    (event,) = api.decoded()
    assert (event.event_id, event.timestamp, json.loads(event.extra_metadata)) == ("evt-1", EVENT["timestamp"], EVENT["extra_metadata"])
    assert api.log.records[0].key == b"user-1"
    assert api.log.headers == [("usher.client", b"gateway")]
    assert api.counted("usher_api_events_accepted_total") == 1


async def test_a_batch_keeps_its_order_and_is_keyed_by_user(api: Served) -> None:
    response = await api.send(events(1_000))
    assert response.json() == {"accepted": 1_000, "event_ids": [f"evt-{number}" for number in range(1_000)]}
    assert [(record.event_id, record.key) for record in api.log.records] == [(f"evt-{n}", f"user-{n % 7}".encode()) for n in range(1_000)]


@pytest.mark.parametrize(
    ("trace", "passed"),
    [
        ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", True),
        ("00-00000000000000000000000000000000-b7ad6b7169203331-01", False),
        ("ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", False),
        ("x", False),
    ],
)
async def test_a_trace_goes_with_the_events(api: Served, trace: str, passed: bool) -> None:
    await api.send(EVENT, traceparent=trace)
    assert (("traceparent", trace.encode()) in api.log.headers) is passed


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b'{"a":1}x', b"[" * 100_000, b"NaN", b'{"event_id":"\\ud800"}'])
async def test_what_is_not_json_is_400_and_costs_one_event(api: Served, body: bytes) -> None:
    response = await api.send(body)
    assert (response.status_code, code(response)) == (400, "not-json")
    assert api.counts.used == {"gateway": 1}


async def test_every_field_of_every_bad_event_is_named_and_nothing_is_taken(api: Served) -> None:
    bad = {key: value for key, value in EVENT.items() if key not in ("user_id", "region")} | {"is_eu": "yes", "extra_metadata": [1]}
    response = await api.send({"events": [EVENT, bad, 7, EVENT | {"timestamp": 1.5, "amount": "3"}]})
    assert (response.status_code, code(response)) == (422, "invalid-events")
    assert sorted(errors(response)) == sorted(
        [
            ("#/events/1/user_id", "missing"),
            ("#/events/1/region", "missing"),
            ("#/events/1/is_eu", "wrong-type"),
            ("#/events/1/extra_metadata", "wrong-type"),
            ("#/events/2", "not-an-object"),
            ("#/events/3/timestamp", "wrong-type"),
            ("#/events/3/amount", "wrong-type"),
        ]
    )
    assert api.log.records == []
    assert errors(await api.send([EVENT, {}]))[0] == ("#/1/event_id", "missing")
    assert errors(await api.send(EVENT | {"ip_address": None})) == [("#/ip_address", "wrong-type")]


@pytest.mark.parametrize(
    ("body", "where", "what"),
    [
        ([], "#", "empty"),
        ({"events": []}, "#/events", "empty"),
        ({"events": 1}, "#/events", "wrong-type"),
        ({"events": [EVENT], "a/b": 1}, "#/a~1b", "unknown-member"),
        (7, "#", "not-an-object"),
    ],
)
async def test_bodies_of_another_shape_are_422(api: Served, body: Any, where: str, what: str) -> None:
    response = await api.send(body)
    assert (response.status_code, errors(response)) == (422, [(where, what)])


async def test_no_value_of_an_event_is_in_a_problem(api: Served) -> None:
    response = await api.send([EVENT | {"user_id": {"secret-name": 1}, "amount": "secret-amount", "extra_metadata": "secret-text"}])
    assert response.status_code == 422
    assert "secret" not in response.text


async def test_too_much_is_413() -> None:
    async with served(IngestSettings(max_body_bytes=5_000, max_events=3, max_event_bytes=600)) as api:
        assert code(await api.send(events(4))) == "too-many-events"
        assert code(await api.send(b" " * 5_001)) == "body-too-large"
        large = await api.send([EVENT, EVENT | {"content_id": "x" * 1_000}])
        assert (large.status_code, code(large), errors(large)) == (413, "event-too-large", [("#/1", "too-large")])

        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(6):
                yield b" " * 1_000

        response = await api.http.post("/v1/events", content=chunks(), headers={"Content-Type": "application/json"})
        assert (response.status_code, code(response)) == (413, "body-too-large")
        assert api.log.records == []


async def test_a_body_that_does_not_come_is_408() -> None:
    async with served(IngestSettings(body_timeout_s=0.01)) as api:
        never = asyncio.Event()

        async def chunks() -> AsyncIterator[bytes]:
            yield b"["
            await never.wait()

        response = await api.http.post("/v1/events", content=chunks(), headers={"Content-Type": "application/json"})
        assert (response.status_code, code(response)) == (408, "body-too-slow")


@pytest.mark.parametrize("kind", ["text/plain", "application/xml", "", "application/json; charset=latin-1"])
async def test_other_media_types_are_415(api: Served, kind: str) -> None:
    response = await api.send(b"{}", Content_Type=kind)
    assert (response.status_code, code(response)) == (415, "unsupported-media-type")
    assert "application/json" in response.headers["accept"]


async def test_compressed_bodies_are_415_and_utf_8_may_be_said(api: Served) -> None:
    response = await api.send(b"{}", Content_Encoding="gzip")
    assert (response.status_code, response.headers["accept-encoding"]) == (415, "identity")
    assert (await api.send(json.dumps(EVENT).encode(), Content_Type="Application/JSON; charset=UTF-8")).status_code == 202


async def test_without_a_valid_key_nothing_is_read(api: Served) -> None:
    for headers in ({"X-API-Key": "usk_wrong"}, {"X-API-Key": ""}, {"X-API-Key": "x" * 10_000}):
        response = await api.send(EVENT, **headers)
        assert (response.status_code, code(response)) == (401, "unauthorised")
        assert response.headers["www-authenticate"].startswith("Bearer")
    del api.http.headers["X-API-Key"]
    assert (await api.send(EVENT)).status_code == 401
    assert (await api.send(EVENT, Authorization=f"Basic {KEY}")).status_code == 401
    assert (await api.send(EVENT, Authorization=f"bearer {KEY}")).status_code == 202
    assert len(api.log.records) == 1


async def test_a_client_needs_the_scope_and_its_tenants() -> None:
    async with served(keys=f"reader {DIGEST} scope=decisions:read") as api:
        response = await api.send(EVENT)
        assert (response.status_code, code(response)) == (403, "forbidden")
        assert "insufficient_scope" in response.headers["www-authenticate"]
    async with served(keys=f"gateway {DIGEST} tenant=a,default") as api:
        assert (await api.send([EVENT, EVENT | {"tenant_id": "a"}])).status_code == 202
        response = await api.send([EVENT, EVENT | {"tenant_id": "b"}])
        assert (response.status_code, code(response), errors(response)) == (403, "foreign-tenant", [("#/1/tenant_id", "foreign-tenant")])
        assert len(api.log.records) == 2


async def test_the_rate_limit_is_told_and_kept() -> None:
    async with served(IngestSettings(events_per_window=5)) as api:
        response = await api.send(events(3))
        assert response.headers["ratelimit"] == '"events";r=2;t=60'
        assert response.headers["ratelimit-policy"] == '"events";q=5;w=60'
        assert [response.headers[f"ratelimit-{name}"] for name in ("limit", "remaining", "reset")] == ["5", "2", "60"]
        refused = await api.send(events(3))
        assert (refused.status_code, code(refused), refused.headers["retry-after"]) == (429, "rate-limited", "17")
        assert (await api.send(events(2))).headers["ratelimit-remaining"] == "0"
        assert code(await api.send(events(6))) == "too-many-events"
        assert len(api.log.records) == 5
    async with served(IngestSettings(events_per_window=5), keys=f"gateway {DIGEST} rate=7") as api:
        assert (await api.send(events(7))).status_code == 202


@pytest.mark.parametrize("opens", [True, False])
async def test_without_a_count_events_pass_or_not_as_set(opens: bool) -> None:
    async with served(IngestSettings(rate_limit_fails_open=opens)) as api:
        api.counts.away = True
        response = await api.send(EVENT)
        assert response.status_code == (202 if opens else 503)
        assert "ratelimit" not in response.headers
        assert api.counted("usher_api_store_failures_total", what="rate-limit") == 1
        if not opens:
            assert (code(response), response.headers["retry-after"]) == ("rate-limit-away", "1")


async def test_without_kafka_it_is_503_and_the_key_is_free_again(api: Served) -> None:
    api.log.error = away()
    response = await api.send(EVENT, Idempotency_Key="k")
    assert (response.status_code, code(response), response.headers["retry-after"]) == (503, "kafka-away", "1")
    assert "no broker" not in response.text
    api.log.error = None
    response = await api.send(EVENT, Idempotency_Key="k")
    assert response.status_code == 202
    assert "idempotency-replayed" not in response.headers


async def test_a_repeat_under_the_same_key_has_no_second_effect(api: Served) -> None:
    first = await api.send(events(3), Idempotency_Key='"8e03978e-40d5-43dd-bc93-6894a57f9324"')
    again = await api.send(events(3), Idempotency_Key="8e03978e-40d5-43dd-bc93-6894a57f9324")
    assert again.status_code == 202
    assert again.content == first.content
    assert again.headers["idempotency-replayed"] == "true"
    assert len(api.log.records) == 3
    other = await api.send(events(2), Idempotency_Key="8e03978e-40d5-43dd-bc93-6894a57f9324")
    assert (other.status_code, code(other)) == (422, "idempotency-mismatch")
    assert api.counted("usher_api_requests_repeated_total") == 1


async def test_the_same_key_at_the_same_time_is_409(api: Served) -> None:
    api.log.gate = asyncio.Event()
    first = asyncio.create_task(api.send(EVENT, Idempotency_Key="k"))
    while not api.memory.kept:
        await asyncio.sleep(0)
    second = await api.send(EVENT, Idempotency_Key="k")
    assert (second.status_code, code(second), second.headers["retry-after"]) == (409, "idempotency-conflict", "1")
    api.log.gate.set()
    assert (await first).status_code == 202


async def test_keys_are_of_one_client() -> None:
    other = "usk_other"
    digest = key_digest(other)
    async with served(keys=f"one {DIGEST}; two {digest}") as api:
        assert (await api.send(EVENT, Idempotency_Key="k")).status_code == 202
        assert (await api.send([EVENT], Idempotency_Key="k", X_API_Key=other)).status_code == 202
        assert api.counts.used == {"one": 1, "two": 1}


@pytest.mark.parametrize("key", ["", '""', "a b", "x" * 256, "é".encode().decode("latin-1")])
async def test_a_key_of_another_form_is_400(api: Served, key: str) -> None:
    response = await api.http.post(
        "/v1/events", json=EVENT, headers=[(b"Content-Type", b"application/json"), (b"Idempotency-Key", key.encode("latin-1"))]
    )
    assert (response.status_code, code(response)) == (400, "bad-idempotency-key")


@pytest.mark.parametrize("opens", [True, False])
async def test_without_a_memory_of_keys_events_pass_or_not_as_set(opens: bool) -> None:
    async with served(IngestSettings(idempotency_fails_open=opens)) as api:
        api.memory.away = True
        response = await api.send(EVENT, Idempotency_Key="k")
        assert response.status_code == (202 if opens else 503)
        assert (await api.send(EVENT)).status_code == 202
        assert api.counted("usher_api_store_failures_total", what="idempotency") == 1


async def test_events_that_are_in_kafka_are_accepted_even_if_that_cannot_be_remembered(api: Served) -> None:
    api.memory.away_at_end = True
    assert (await api.send(EVENT, Idempotency_Key="k")).status_code == 202
    assert api.counted("usher_api_store_failures_total", what="idempotency") == 1


async def test_a_bug_is_a_problem_too_and_frees_the_key(api: Served) -> None:
    api.log.error = RuntimeError("a bug with user-1 in it")
    response = await api.send(EVENT, Idempotency_Key="k")
    assert (response.status_code, code(response)) == (500, "internal-error")
    assert "user-1" not in response.text
    assert api.memory.kept == {}


async def test_one_avro_event_goes_to_kafka_as_its_bytes(api: Served, raw: Any) -> None:
    body = api.codec.encode(raw(event_id="avro-1", user_id="u-9"))
    response = await api.send(body, Content_Type="application/vnd.confluent.avro")
    assert response.json() == {"accepted": 1, "event_ids": ["avro-1"]}
    assert (api.log.records[0].key, api.log.records[0].value) == (b"u-9", body)


async def test_bare_avro_holds_one_event_after_another(api: Served, raw: Any) -> None:
    values = [api.codec.encode(raw(event_id=f"avro-{number}")) for number in range(3)]
    response = await api.send(b"".join(value[5:] for value in values), Content_Type="avro/binary")
    assert response.json() == {"accepted": 3, "event_ids": ["avro-0", "avro-1", "avro-2"]}
    assert [record.value for record in api.log.records] == values
    assert api.counts.used == {"gateway": 3}


@pytest.mark.parametrize(
    ("kind", "body", "status", "what"),
    [
        ("application/vnd.confluent.avro", b"", 400, "not-avro"),
        ("application/vnd.confluent.avro", b"\x01\x00\x00\x00\x01x", 400, "not-avro"),
        ("application/vnd.confluent.avro", b"\x00\x7f\x00\x00\x01x", 422, "invalid-events"),
        ("avro/binary", b"", 400, "not-avro"),
        ("avro/binary", b"\x06abc", 400, "not-avro"),
        ("avro/binary", b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01", 400, "not-avro"),
        ("avro/binary", b"\x01" * 50, 400, "not-avro"),
        ("avro/binary", b"\x02\xff" * 50, 400, "not-avro"),
    ],
)
async def test_what_is_not_avro_is_refused(api: Served, kind: str, body: bytes, status: int, what: str) -> None:
    response = await api.send(body, Content_Type=kind)
    assert (response.status_code, code(response)) == (status, what)
    assert api.log.records == []


async def test_avro_is_bounded_as_json_is_and_has_the_right_schema(raw: Any, event: Any) -> None:
    async with served(IngestSettings(max_events=2, max_event_bytes=300)) as api:
        value = api.codec.encode(raw())
        assert code(await api.send(value[5:] * 3, Content_Type="avro/binary")) == "too-many-events"
        large = api.codec.encode(raw(content_id="x" * 400))
        assert errors(await api.send(value[5:] + large[5:], Content_Type="avro/binary")) == [("#/1", "too-large")]
        assert errors(await api.send(large, Content_Type="application/vnd.confluent.avro")) == [("#", "too-large")]
        assert code(await api.send(value[:-1], Content_Type="application/vnd.confluent.avro")) == "not-avro"
        other = api.codec.header("ott.Feedback") + value[5:]
        assert errors(await api.send(other, Content_Type="application/vnd.confluent.avro")) == [("#", "wrong-schema")]


async def test_an_unknown_schema_id_is_asked_for_once_and_a_registry_that_fails_is_503(raw: Any) -> None:
    codec = Codec()
    value = codec.encode(raw())
    number = int.from_bytes(value[1:5], "big")
    version = codec.ids.by_id[number]
    asked: list[int] = []

    def find(schema_id: int) -> Any:
        asked.append(schema_id)
        if schema_id == 900:
            codec.ids.by_id[900] = replace(version, id=900)
        elif schema_id == 901:
            raise ConnectionError("no registry")
        return codec.ids.by_id.get(schema_id)

    codec.ids.find = find  # type: ignore[method-assign]
    async with served(codec=codec) as api:
        kind = "application/vnd.confluent.avro"
        assert (await api.send(b"\x00" + (900).to_bytes(4, "big") + value[5:], Content_Type=kind)).status_code == 202
        failed = await api.send(b"\x00" + (901).to_bytes(4, "big") + value[5:], Content_Type=kind)
        assert (failed.status_code, code(failed)) == (503, "registry-away")
        unknown = await api.send(b"\x00" + (902).to_bytes(4, "big") + value[5:], Content_Type=kind)
        assert (unknown.status_code, errors(unknown)) == (422, [("#", "unknown-schema-id")])
