"""`POST /v1/events`: from a request to events in Kafka, or to the reason why not.

The order of the checks: who (401, 403), what kind of body (415), how large (413, 408), is it readable (400, 413, 422), how much has
the client sent (429), is every event one (422, 413), whose tenants (403), was it sent before (409, 422), and only then Kafka (503).
A batch is taken as a whole or not at all.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec
import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from api.bodies import (
    AVRO_WIRE,
    JSON,
    AvroReader,
    EventBatch,
    JsonEvents,
    JsonReader,
    event_pointer,
    media_type,
    read_json,
    read_wire,
    schema_id,
    unprocessable,
)
from api.clients import EVENTS_WRITE, Authenticator, Client, find_client
from api.idempotency import Claim, Misused, Repeat, Replies, Running, fingerprint, parse_key
from api.kafka import EventProducer, KafkaAway
from api.operations import ApiMetrics
from api.problems import FieldError, Problem, problem_response
from api.ratelimit import RateLimiter
from api.settings import IngestSettings
from api.stores import StoreAway
from schemas.codec import Codec

log: Final = structlog.get_logger("usher.api")

EVENTS_A_STEP: Final = 200
"""Events that are read before the event loop gets its turn: some milliseconds."""
RETRY_S: Final = "1"

_TRACEPARENT: Final = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}", re.ASCII)


class Accepted(msgspec.Struct, frozen=True):
    """The response to events that are in Kafka."""

    accepted: int
    event_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Seen:
    """What is known of a request when Kafka's turn comes."""

    client: Client
    batch: EventBatch
    key: str | None
    fingerprint: bytes


@dataclass(slots=True)
class Ingest:
    """The endpoint with all that it stands on.

    Attributes:
        producer: puts events into the log.
        codec: bytes and records. Its schema ids may block when asked for an unknown one; they are asked in a thread.
        authenticators: asked in turn who sends.
        limiter, replies: rate limit and idempotency.
        settings: bounds.
        metrics: what is counted.
    """

    producer: EventProducer
    codec: Codec
    authenticators: Sequence[Authenticator]
    limiter: RateLimiter
    replies: Replies
    settings: IngestSettings
    metrics: ApiMetrics
    _avro: AvroReader = field(init=False)
    _asking: asyncio.Lock = field(init=False, default_factory=asyncio.Lock)

    def __post_init__(self) -> None:
        self._avro = AvroReader(self.codec)

    async def post(self, request: Request) -> Response:
        """Answers a request: 202 after Kafka acked every event, else a problem."""
        headers: dict[str, str] = {}
        seen = await self._receive(request, headers)
        found = seen if isinstance(seen, Problem) else await self._take(seen, _kafka_headers(request, seen.client), headers)
        if isinstance(found, Problem):
            self.metrics.problems.labels(found.code).inc()
            return problem_response(found, request.state.request_id, headers)
        return Response(msgspec.json.encode(found), 202, {**headers, "Cache-Control": "no-store"}, JSON)

    async def _receive(self, request: Request, headers: dict[str, str]) -> _Seen | Problem:
        """Everything before Kafka; adds the rate limit's response headers to `headers`."""
        client = find_client(request.headers, self.authenticators, EVENTS_WRITE)
        if isinstance(client, Problem):
            return client
        kind = media_type(request.headers.get("content-type", ""))
        if isinstance(kind, Problem):
            return kind
        if request.headers.get("content-encoding", "identity").lower() != "identity":
            detail = "bodies are taken uncompressed"
            return Problem(415, "unsupported-encoding", "Unsupported encoding", detail, headers={"Accept-Encoding": "identity"})
        given = request.headers.get("idempotency-key")
        key = None if given is None else parse_key(given)
        if given is not None and key is None:
            return Problem(400, "bad-idempotency-key", "Bad Idempotency-Key", "a key is 1 to 255 visible ASCII characters")
        body = await self._read_body(request)
        if isinstance(body, Problem):
            return body
        batch = await self._read_events(client, kind, body, headers)
        if isinstance(batch, Problem):
            return batch
        return _foreign_tenants(client, batch) or _Seen(client, batch, key, fingerprint(kind, body))

    async def _read_body(self, request: Request) -> bytes | Problem:
        limit = self.settings.max_body_bytes
        too_large = Problem(413, "body-too-large", "Body too large", f"a body has at most {limit} bytes", headers={"Connection": "close"})
        declared = request.headers.get("content-length", "")
        if declared.isdigit() and int(declared) > limit:
            return too_large
        body = bytearray()
        try:
            async with asyncio.timeout(self.settings.body_timeout_s):
                async for chunk in request.stream():
                    body += chunk
                    if len(body) > limit:
                        return too_large
        except TimeoutError:
            detail = f"the body did not arrive within {self.settings.body_timeout_s:g} s"
            return Problem(408, "body-too-slow", "Body too slow", detail, headers={"Connection": "close"})
        except ClientDisconnect:
            return Problem(400, "disconnected", "Disconnected", "the client left before its body was complete")
        return bytes(body)

    async def _read_events(self, client: Client, kind: str, body: bytes, headers: dict[str, str]) -> EventBatch | Problem:
        """Reads and counts. What cannot be read counts as one event, so that nobody sends junk without end."""
        settings = self.settings
        events: JsonEvents | EventBatch | Problem
        if kind == JSON:
            events = read_json(body, settings.max_events)
        elif kind == AVRO_WIRE:
            events = await self._read_wire(body)
        else:
            events = self._avro.read(body, settings.max_events, settings.max_event_bytes)
        count = 1 if isinstance(events, Problem) else len(events.found if isinstance(events, JsonEvents) else events.records)
        refused = await self._count(client, count, headers)
        if refused is not None:
            return refused
        if not isinstance(events, JsonEvents):
            return events
        reader = JsonReader(self.codec, events, settings.max_event_bytes)
        for _ in reader.steps(EVENTS_A_STEP):
            await asyncio.sleep(0)
        return reader.result()

    async def _read_wire(self, body: bytes) -> EventBatch | Problem:
        number = schema_id(body)
        if number is not None and number not in self.codec.ids.by_id:
            try:
                async with self._asking:  # ids are not thread-safe
                    known = await asyncio.to_thread(self.codec.ids.find, number)
            except Exception as error:  # noqa: BLE001 - the registry client is the caller's; whatever it raises, the registry cannot say
                self.metrics.uncounted.labels("schema-registry").inc()
                log.warning("the schema registry does not answer", error=type(error).__name__)
                return _away("registry-away", "the schema registry does not answer")
            if known is None:
                return unprocessable([FieldError("#", "unknown-schema-id", f"schema id {number} is not known")])
        return read_wire(self.codec, body, self.settings.max_event_bytes)

    async def _count(self, client: Client, events: int, headers: dict[str, str]) -> Problem | None:
        limit = client.events_per_window or self.settings.events_per_window
        if events > limit:
            return Problem(
                413, "too-many-events", "Too many events", f"this client may send {limit} events in {self.settings.window_s:g} s"
            )
        try:
            allowance = await self.limiter.take(client.name, events, limit)
        except StoreAway:
            self.metrics.uncounted.labels("rate-limit").inc()
            return None if self.settings.rate_limit_fails_open else _away("rate-limit-away", "events cannot be counted now")
        headers.update(allowance.headers(self.settings.window_s))
        if allowance.taken:
            return None
        detail = f"at most {limit} events in {self.settings.window_s:g} s; {allowance.remaining} fit now, {events} came"
        return Problem(429, "rate-limited", "Too many events in this time", detail)

    async def _take(self, seen: _Seen, kafka_headers: Sequence[tuple[str, bytes]], headers: dict[str, str]) -> Accepted | Problem:
        records = seen.batch.records
        accepted = Accepted(len(records), tuple(record.event_id for record in records))
        claim = await self._begin(seen)
        if isinstance(claim, Problem):
            return claim
        if isinstance(claim, Repeat):
            self.metrics.repeated.inc()
            headers["Idempotency-Replayed"] = "true"
            return accepted
        taken = False
        try:
            await self.producer.publish(records, kafka_headers)
            taken = True
        except KafkaAway as error:
            log.warning("events were not acked", events=len(records), error=str(error))
            return _away("kafka-away", "Kafka did not ack all events in time; send them again, each is counted once by its event_id")
        finally:
            await self._end(claim, taken)
        self.metrics.accepted.inc(accepted.accepted)
        return accepted

    async def _begin(self, seen: _Seen) -> Claim | Repeat | Problem | None:
        if seen.key is None:
            return None
        try:
            found = await self.replies.begin(seen.client.name, seen.key, seen.fingerprint)
        except StoreAway:
            self.metrics.uncounted.labels("idempotency").inc()
            return (
                None if self.settings.idempotency_fails_open else _away("idempotency-away", "the Idempotency-Key cannot be looked up now")
            )
        if isinstance(found, Running):
            detail = "a request with this Idempotency-Key is being worked on"
            return Problem(409, "idempotency-conflict", "Being worked on", detail, headers={"Retry-After": RETRY_S})
        if isinstance(found, Misused):
            return Problem(422, "idempotency-mismatch", "Idempotency-Key used before", "this key belongs to a request with another body")
        return found

    async def _end(self, claim: Claim | None, taken: bool) -> None:
        if claim is None:
            return
        try:
            await (self.replies.settle(claim) if taken else self.replies.release(claim))
        except StoreAway:  # its lease ends by itself; a repeat then is counted once by its event ids
            self.metrics.uncounted.labels("idempotency").inc()


def _away(code: str, detail: str) -> Problem:
    return Problem(503, code, "Not available now", detail, headers={"Retry-After": RETRY_S})


def _foreign_tenants(client: Client, batch: EventBatch) -> Problem | None:
    tenants = client.tenants
    if tenants is None:
        return None
    errors = tuple(
        FieldError(event_pointer(batch.path, position, "tenant_id"), "foreign-tenant", "not a tenant of this client")
        for position, record in enumerate(batch.records)
        if record.tenant_id not in tenants
    )
    return Problem(403, "foreign-tenant", "Not allowed", "nothing was taken; errors names the events", errors) if errors else None


def _kafka_headers(request: Request, client: Client) -> Sequence[tuple[str, bytes]]:
    """Who sent the events, and the trace they belong to (W3C Trace Context)."""
    found = [("usher.client", client.name.encode())]
    trace = request.headers.get("traceparent", "")
    if _TRACEPARENT.fullmatch(trace):
        found.append(("traceparent", trace.encode()))
    return found
