"""Every setting, read once, typed and validated. `usher settings --explain` prints this file's contents as documentation."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Literal

from pydantic import Field, PostgresDsn, RedisDsn, TypeAdapter, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Settings come from environment variables named `USHER_` and the field's name, or from a `.env` file in the working folder.

    Raises:
        pydantic.ValidationError: a value does not fit; the error names every field that is wrong.
    """

    model_config = SettingsConfigDict(env_prefix="USHER_", env_file=".env", extra="ignore", frozen=True)

    bootstrap_servers: str = Field("127.0.0.1:9092", description="Kafka bootstrap servers, host:port, comma-separated.")
    postgres_dsn: str = Field("postgresql://127.0.0.1:5432/usher", description="Postgres connection URL of the sink database.")
    redis_url: str = Field("redis://127.0.0.1:6379/0", description="Redis or Valkey URL of the cache. The pipeline survives its loss.")
    registry_url: str | None = Field(
        None, description="Schema registry with the Confluent API. Without one, ids come from schemas/lock.json."
    )

    partitions: int = Field(8, ge=1, le=1024, description="Partitions of every user-keyed topic when topics are created. Fixed afterwards.")
    replication_factor: int = Field(1, ge=1, le=9, description="Replicas of every topic when topics are created.")

    data_dir: Path = Field(Path(".usher"), description="Folder for tables, logs and the local platform's data.")
    worker_name: str = Field("w1", pattern=r"^[A-Za-z0-9_.-]{1,64}$", description="Name of this worker; names its table folder.")
    static_membership: bool = Field(
        False, description="Join consumer groups under the worker's name, so that a quick restart moves nothing."
    )
    session_timeout_s: float = Field(10.0, ge=6.0, le=300.0, description="Seconds after which a silent worker loses its partitions.")
    heartbeat_s: float = Field(3.0, gt=0, description="Seconds between heartbeats; at most a third of the session timeout.")
    batch_max_events: int = Field(500, ge=1, le=10_000, description="Most events of a partition in one batch.")
    commit_interval_s: float = Field(1.0, gt=0, le=60, description="Seconds between offset commits.")
    fetch_wait_ms: int = Field(
        10, ge=1, le=5_000, description="Longest wait of a fetch at the broker; bounds the latency of a quiet topic."
    )
    produce_timeout_s: float = Field(
        120.0, ge=5.0, description="Seconds a produced batch may wait for Kafka's acks before the worker ends."
    )
    http_host: str = Field("127.0.0.1", description="Address of health, readiness and metrics.")
    http_port: int = Field(0, ge=0, le=65535, description="Port of health, readiness and metrics; 0 takes a free one and logs it.")
    log_format: Literal["console", "json"] = Field("console", description="How log lines look.")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least severe level that is logged.")

    max_event_bytes: int = Field(262_144, ge=1_024, description="Largest raw event; larger ones become dead letters.")
    max_ahead_s: int = Field(300, ge=0, description="How far an event's time may lie in the future of its arrival.")
    max_age_days: int = Field(366, ge=1, description="How old an event may be when it arrives.")
    accept_null_key: bool = Field(False, description="Accept raw records without a key (their order is then not kept).")
    accept_unknown_event_types: bool = Field(False, description="Accept unknown event types as UNKNOWN instead of refusing them.")

    api_keys_file: Path | None = Field(
        None, description="File of API keys' digests, as `usher keys new` prints them; re-read at start only."
    )
    jwt_key_file: Path | None = Field(
        None, description="Key that signs or verifies bearer tokens: a secret (HS256) or a public key in PEM (Ed25519)."
    )
    jwt_algorithm: Literal["HS256", "EdDSA"] = Field("HS256", description="The one algorithm that tokens may be signed with.")
    jwt_issuer: str | None = Field(None, description="Issuer that tokens must name.")
    jwt_audience: str | None = Field(None, description="Audience that tokens must name.")
    api_events_per_minute: int = Field(10_000, ge=1, description="Events a client may send in any minute, over all API processes.")
    api_fails_open: bool = Field(True, description="Whether the API takes events without rate limit and idempotency while Redis is away.")

    @field_validator("postgres_dsn")
    @classmethod
    def _postgres(cls, value: str) -> str:
        TypeAdapter(PostgresDsn).validate_python(value)
        return value

    @field_validator("redis_url")
    @classmethod
    def _redis(cls, value: str) -> str:
        TypeAdapter(RedisDsn).validate_python(value)
        return value


@functools.cache
def settings() -> Settings:
    """The process's settings, read at the first call."""
    return Settings()  # type: ignore[call-arg]


def explain(current: Settings) -> list[tuple[str, str, str]]:
    """(environment variable, value in force with passwords hidden, meaning) for every setting."""
    rows = []
    for name, field in Settings.model_fields.items():
        value = str(getattr(current, name))
        if "://" in value and "@" in value:
            scheme, _, rest = value.partition("://")
            value = f"{scheme}://***@{rest.rpartition('@')[2]}"
        rows.append((f"USHER_{name.upper()}", value, field.description or ""))
    return rows
