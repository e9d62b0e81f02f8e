"""What operates the API: health, readiness and metrics."""

from __future__ import annotations

import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

REQUEST_BUCKETS_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
CHECKED_FOR_S: Final = 1.0


class ApiMetrics:
    """The metrics of one API process, in a registry of their own. No client, user or address in a label."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter("usher_api_requests", "Requests by route and status.", ["method", "route", "status"], registry=registry)
        self.seconds = Histogram(
            "usher_api_request_seconds",
            "From a request's head to its response's end.",
            ["route"],
            buckets=REQUEST_BUCKETS_S,
            registry=registry,
        )
        self.accepted = Counter("usher_api_events_accepted", "Events that Kafka acked.", registry=registry)
        self.repeated = Counter("usher_api_requests_repeated", "Requests answered from their Idempotency-Key.", registry=registry)
        self.problems = Counter("usher_api_problems", "Refusals by the code of the problem.", ["code"], registry=registry)
        self.uncounted = Counter(
            "usher_api_store_failures", "Requests that could not use Redis, by what they wanted.", ["what"], registry=registry
        )
        self.pending = Gauge("usher_api_events_pending", "Events that wait for Kafka's ack.", registry=registry)


@dataclass(frozen=True, slots=True)
class Check:
    """One part that the API stands on.

    Attributes:
        name: what `/health/ready` calls it.
        ask: gives `ok`, or what is wrong.
        needed: whether the API is not ready without it.
    """

    name: str
    ask: Callable[[], Awaitable[str]]
    needed: bool = True


@dataclass(slots=True)
class Health:
    """Answers `/health/live` and `/health/ready`.

    Attributes:
        checks: what readiness stands on; asked at most once a second, whoever probes.
        fatal: what cannot get better without a new start; None: nothing. The process is not live then.
        clock: monotonic seconds.
    """

    checks: Sequence[Check] = ()
    fatal: Callable[[], str | None] = lambda: None
    clock: Callable[[], float] = time.monotonic
    _parts: Mapping[str, str] = field(default_factory=dict)
    _asked_s: float = float("-inf")

    async def live(self, request: Request) -> Response:
        """200, or 503 if only a new start helps."""
        wrong = self.fatal()
        if wrong is None:
            return JSONResponse({"status": "ok"})
        return JSONResponse({"status": "not live", "detail": wrong}, 503)

    async def ready(self, request: Request) -> Response:
        """200, or 503 while a needed part is not ok; names every part."""
        if self.clock() - self._asked_s > CHECKED_FOR_S:
            self._parts = {check.name: await check.ask() for check in self.checks}
            self._asked_s = self.clock()
        ready = all(self._parts[check.name] == "ok" for check in self.checks if check.needed)
        return JSONResponse({"status": "ok" if ready else "not ready", "parts": dict(self._parts)}, 200 if ready else 503)


def metrics_route(metrics: ApiMetrics, pending: Callable[[], int]) -> Callable[[Request], Awaitable[Response]]:
    """Answers `/metrics`; `pending` is asked how many events wait for Kafka."""

    async def answer(request: Request) -> Response:
        metrics.pending.set(pending())
        return Response(generate_latest(metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    return answer


class Observed:
    """ASGI middleware: gives every request an id, counts it and times it.

    Routes are counted by their path as declared, so that no path of a client becomes a label.
    """

    def __init__(self, app: ASGIApp, metrics: ApiMetrics, clock: Callable[[], float]) -> None:
        self._app, self._metrics, self._clock = app, metrics, clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = str(uuid.uuid4())
        scope.setdefault("state", {})["request_id"] = request_id
        status, began_s = 500, self._clock()

        async def observe(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [
                    *message["headers"], (b"x-request-id", request_id.encode()), (b"x-content-type-options", b"nosniff"),
                ]  # fmt: skip
            await send(message)

        try:
            await self._app(scope, receive, observe)
        finally:
            route = getattr(scope.get("route"), "path", "unmatched")
            method = scope["method"] if scope["method"] in ("GET", "HEAD", "POST") else "other"
            self._metrics.requests.labels(method, route, status).inc()
            self._metrics.seconds.labels(route).observe(self._clock() - began_s)
