"""The application: routes, errors and what they stand on, put together from parts that are given."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import structlog
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from api.clients import Authenticator
from api.idempotency import Replies
from api.ingest import Ingest
from api.kafka import EventProducer
from api.openapi import components, events_operation
from api.operations import ApiMetrics, Check, Health, Observed, metrics_route
from api.problems import Problem, plain_problem, problem_response
from api.ratelimit import RateLimiter
from api.settings import IngestSettings
from schemas.codec import Codec

log: Final = structlog.get_logger("usher.api")


@dataclass(frozen=True, slots=True)
class Parts:
    """What the application stands on.

    Attributes:
        producer: puts events into the log.
        codec: bytes and records.
        authenticators: asked in turn who sends; without one nobody may.
        limiter: rate limit.
        replies: idempotency.
        checks: what readiness stands on.
        fatal: what only a new start helps against; None: nothing.
        pending: how many events wait for Kafka.
        close: awaited when the application ends.
    """

    producer: EventProducer
    codec: Codec
    authenticators: Sequence[Authenticator]
    limiter: RateLimiter
    replies: Replies
    checks: Sequence[Check] = ()
    fatal: Callable[[], str | None] = lambda: None
    pending: Callable[[], int] = lambda: 0
    close: Sequence[Callable[[], Awaitable[object]]] = ()


def make_app(
    parts: Parts,
    settings: IngestSettings,
    version: str = "dev",
    metrics: ApiMetrics | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> FastAPI:
    """The ASGI application.

    Args:
        parts: what it stands on.
        settings: bounds of the ingest endpoint.
        version: what the OpenAPI document says.
        metrics: what is counted; None: metrics of its own.
        clock: monotonic seconds.
    """
    counted = metrics or ApiMetrics()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        for close in parts.close:
            await close()

    # No page of documentation: FastAPI's loads its scripts from elsewhere.
    app = FastAPI(title="Usher", version=version, docs_url=None, redoc_url=None, lifespan=lifespan)
    ingest = Ingest(parts.producer, parts.codec, parts.authenticators, parts.limiter, parts.replies, settings, counted)
    health = Health(parts.checks, parts.fatal, clock)
    app.add_api_route(
        "/v1/events",
        ingest.post,
        methods=["POST"],
        summary="Take events",
        description="Takes one event or a batch, wholly or not at all, and answers when Kafka has acked every event.",
        operation_id="takeEvents",
        tags=["events"],
        status_code=202,
        response_class=Response,
        openapi_extra=events_operation(settings.max_events),
    )
    app.add_route("/health/live", health.live)
    app.add_route("/health/ready", health.ready)
    app.add_route("/metrics", metrics_route(counted, parts.pending))
    app.add_exception_handler(HTTPException, _http_problem)
    app.add_exception_handler(Exception, _bug)
    app.add_middleware(Observed, metrics=counted, clock=clock)
    app.openapi = lambda: _document(app)  # type: ignore[method-assign]
    return app


async def _http_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return problem_response(plain_problem(error.status_code, str(error.detail), error.headers or {}), _request_id(request))


async def _bug(request: Request, error: Exception) -> Response:
    log.error("a request failed by a bug", request_id=_request_id(request), exc_info=error)
    request_id = _request_id(request)
    problem = Problem(500, "internal-error", "Internal error", "this is a bug; the log has more", headers={"X-Request-Id": request_id})
    return problem_response(problem, request_id)


def _request_id(request: Request) -> str:
    found: str = getattr(request.state, "request_id", "")
    return found


def _document(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema is None:
        found = get_openapi(title=app.title, version=app.version, routes=app.routes, description="Events in, decisions out.")
        found["components"] = components()
        app.openapi_schema = found
    return app.openapi_schema
