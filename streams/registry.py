"""Schema ids from a registry with the Confluent API (Confluent Schema Registry, Apicurio, Karapace, Redpanda).

Without a registry the ids of schemas/lock.json are used and nothing here is needed.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote

import httpx
import stamina

from schemas.codec import Codec, SchemaIds
from schemas.foreign import full_name
from schemas.records import RECORDS
from schemas.store import Released, self_contained
from schemas.topics import Topic

COMPATIBILITY: Final = "BACKWARD_TRANSITIVE"
START_WITHIN_S: Final = 30.0
"""How long a process that starts waits for its registry; a registry often starts together with it."""
FIND_WITHIN_S: Final = 2.0
"""About how long looking up one id may take. A worker looks up on its event loop, between two heartbeats."""
UNKNOWN_FOR_S: Final = 60.0
"""How long an id that the registry did not know is taken for unknown: its schema may be registered later."""
UNKNOWN_MAX: Final = 100
"""Most unknown ids that are asked for in `UNKNOWN_FOR_S`."""
_UNKNOWN_CODE: Final = 40403
_AWAY: Final = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS})


class RegistryError(Exception):
    """The registry refuses; the message says which request and why."""


class RegistryAway(RegistryError):
    """The registry cannot be reached, does not answer in time or cannot answer now: the same request may succeed later."""


class Registry:
    """A small client: register, look up by id, set compatibility. It blocks, and asks a registry that is away again for a while.

    Args:
        url: base URL of the Confluent API.
        start_within_s: how long `register` and `require_compatibility` try.
        find_within_s: how long `find` tries, time-outs of its requests included (DNS is not).
        transport: how httpx sends requests (None: over the network).
    """

    def __init__(
        self,
        url: str,
        *,
        start_within_s: float = START_WITHIN_S,
        find_within_s: float = FIND_WITHIN_S,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        headers = {"Content-Type": "application/vnd.schemaregistry.v1+json"}
        self._http = httpx.Client(base_url=url.rstrip("/"), headers=headers, transport=transport)
        self._start_within_s = start_within_s
        self._find_within_s = find_within_s

    def require_compatibility(self) -> None:
        """Makes BACKWARD_TRANSITIVE the registry's rule.

        Raises:
            RegistryError: the registry refuses; as `RegistryAway`: it stays away.
        """
        for attempt in _attempts(self._start_within_s):
            with attempt:
                self._ask("PUT", "/config", 10.0, {"compatibility": COMPATIBILITY})

    def register(self, topic: Topic) -> Released:
        """Registers the schema of a topic's values under `<topic>-value` and returns it with the registry's id.

        Raises:
            RegistryError: e.g. 409, the schema is not compatible with what is registered; as `RegistryAway`: it stays away.
        """
        schema = self_contained(topic.record)
        subject = quote(f"{topic.name}-value", safe="")
        body = {"schema": json.dumps(schema), "schemaType": "AVRO"}
        for attempt in _attempts(self._start_within_s):
            with attempt:
                answer = self._ask("POST", f"/subjects/{subject}/versions", 10.0, body)
        return Released(int(answer["id"]), topic.record, int(answer.get("version", 1)), schema)

    def find(self, schema_id: int) -> Released | None:
        """The schema with this id; None where the registry has none, or one that is not the object of an Avro record.

        Of records that are not Usher's only the name is kept: nothing is read with their schemas.

        Raises:
            RegistryError: the registry does not say, for a reason that is not the id; as `RegistryAway`: it stays away.
        """
        until = time.monotonic() + self._find_within_s
        try:
            for attempt in _attempts(self._find_within_s):
                with attempt:
                    left_s = max(until - time.monotonic(), 0.1)
                    # Connecting and waiting for the answer may each take half.
                    answer = self._ask("GET", f"/schemas/ids/{schema_id}", left_s / 2)
        except _NotFound:
            return None
        if answer.get("schemaType", "AVRO") != "AVRO":
            return None
        try:
            schema = json.loads(answer["schema"])
        except (KeyError, TypeError, ValueError, RecursionError):
            return None
        name = full_name(schema)
        if name is None:
            return None
        return Released(schema_id, name, 0, schema if name in RECORDS else {})

    def _ask(self, method: str, path: str, timeout_s: float, body: dict[str, Any] | None = None) -> dict[str, Any]:
        try:
            answer = self._http.request(method, path, json=body, timeout=timeout_s)
        except httpx.HTTPError as error:
            raise RegistryAway(f"{method} {path}: {type(error).__name__}: {error}") from error
        what = f"{method} {path}: {answer.status_code} {answer.text[:300]}"
        try:
            found = answer.json()
        except (ValueError, RecursionError):
            found = None
        if answer.is_server_error or answer.status_code in _AWAY or not isinstance(found, dict):
            # What is no JSON comes from a proxy in front of the registry, its 404 as well: it says nothing about an id.
            raise RegistryAway(what)
        if found.get("error_code") == _UNKNOWN_CODE:
            raise _NotFound(what)
        if answer.is_error:
            raise RegistryError(what)
        return found


class _NotFound(RegistryError):
    """The registry says that it has no such schema."""


def _attempts(within_s: float) -> Iterator[Any]:
    return iter(stamina.retry_context(on=RegistryAway, attempts=None, timeout=within_s, wait_initial=0.1, wait_max=1.0, wait_jitter=0.1))


class RegistryIds(SchemaIds):
    """Ids of a registry: what is written with is registered at the start, what is read is looked up once and kept.

    Args:
        registry: the client.
        topics: whose schemas are registered.
        clock: monotonic seconds.

    Raises:
        RegistryError: as `Registry.register`.
    """

    def __init__(self, registry: Registry, topics: Iterable[Topic], clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(registry.register(topic) for topic in topics)
        self._registry = registry
        self._clock = clock
        self._unknown: dict[int, float] = {}

    def find(self, schema_id: int) -> Released | None:
        """As `SchemaIds.find`; asks the registry for an id it does not know, and for one that the registry did not know a minute later.

        While `UNKNOWN_MAX` ids are unknown, further ones are taken for unknown without asking: a sender who makes ids up would
        otherwise keep a worker at the registry until it loses its partitions. Their records are dead letters and can be replayed.

        Raises:
            RegistryError: an id is not known here and the registry cannot say what it is. The record may be sound, so this is a
                broken dependency and not a dead letter: workers end the batch unacked, sinks hold it, and both read it again.
        """
        found = self.by_id.get(schema_id)
        if found is not None:
            return found
        now = self._clock()
        self._unknown = {one: until for one, until in self._unknown.items() if until > now}
        if schema_id in self._unknown or len(self._unknown) >= UNKNOWN_MAX:
            return None
        found = self._registry.find(schema_id)
        if found is None:
            self._unknown[schema_id] = self._clock() + UNKNOWN_FOR_S
        else:
            self.by_id[schema_id] = found
        return found


def make_codec(registry_url: str | None, topics: Iterable[Topic]) -> Codec:
    """A codec with ids from the registry, or from the lock file where none is configured.

    Raises:
        RegistryError: the registry refuses a schema; as `RegistryAway`: it stays away.
    """
    if registry_url is None:
        return Codec()
    registry = Registry(registry_url)
    registry.require_compatibility()
    return Codec(RegistryIds(registry, topics))
