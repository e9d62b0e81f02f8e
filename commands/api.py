"""Puts the ingest API together and serves it."""

from __future__ import annotations

import time
from pathlib import Path

import uvicorn
from confluent_kafka import Producer

from api.app import Parts, make_app
from api.clients import ApiKeys, Authenticator, CredentialError, TokenPolicy, Tokens
from api.idempotency import RedisReplies
from api.kafka import AckedProducer
from api.operations import Check
from api.ratelimit import RedisRateLimiter
from api.settings import IngestSettings
from api.stores import Store, connect
from schemas.codec import Codec
from schemas.topics import RAW
from streams.publish import producer_config
from streams.settings import Settings
from streams.worker import usher_version

TRANSPORT_SHARE = 0.8
"""librdkafka gives a record up before the request's own time is up, so that a 503 is not followed by a late record more than it must."""


class Unconfigured(Exception):
    """The API has nobody it could let in; the message says what to set."""


def authenticators(settings: Settings) -> list[Authenticator]:
    """Who may send, from the settings.

    Raises:
        Unconfigured: neither API keys nor a token key are set, or a file cannot be read or used.
    """
    found: list[Authenticator] = []
    try:
        if settings.api_keys_file is not None:
            found.append(ApiKeys(Path(settings.api_keys_file).read_text()))
        if settings.jwt_key_file is not None:
            policy = TokenPolicy(algorithm=settings.jwt_algorithm, issuer=settings.jwt_issuer, audience=settings.jwt_audience)
            found.append(Tokens(Path(settings.jwt_key_file).read_bytes(), policy, time.time))
    except (OSError, ValueError, CredentialError) as error:
        raise Unconfigured(str(error)) from error
    if not found:
        raise Unconfigured("set USHER_API_KEYS_FILE (lines as `usher keys new` prints them) or USHER_JWT_KEY_FILE")
    return found


def serve(settings: Settings, codec: Codec, host: str, port: int) -> None:
    """Serves until SIGTERM or SIGINT; requests in flight are finished.

    Raises:
        Unconfigured: see `authenticators`.
    """
    ingest = IngestSettings(
        max_event_bytes=settings.max_event_bytes, events_per_window=settings.api_events_per_minute, window_s=60.0,
        rate_limit_fails_open=settings.api_fails_open, idempotency_fails_open=settings.api_fails_open,
    )  # fmt: skip
    known = authenticators(settings)
    config = producer_config(
        settings.bootstrap_servers, **{"message.timeout.ms": int(ingest.ack_timeout_s * TRANSPORT_SHARE * 1000), "linger.ms": 2}
    )
    producer = AckedProducer(Producer(config), RAW.name, ingest.ack_timeout_s)
    store = Store(connect(settings.redis_url), time.monotonic)
    parts = Parts(
        producer,
        codec,
        known,
        RedisRateLimiter(store, ingest.window_s),
        RedisReplies(store, ingest.idempotency_ttl_s, ingest.idempotency_lease_s),
        checks=(Check("kafka", producer.check), Check("redis", store.check, needed=not settings.api_fails_open)),
        fatal=lambda: producer.fatal,
        pending=lambda: producer.pending,
        close=(producer.close, store.client.aclose),
    )
    where = Path(settings.data_dir, "run", f"{settings.worker_name}.url")
    where.parent.mkdir(parents=True, exist_ok=True)
    where.write_text(f"http://{host}:{port}")
    try:
        uvicorn.run(make_app(parts, ingest, usher_version()), host=host, port=port, log_config=None, access_log=False)
    finally:
        where.unlink(missing_ok=True)
