"""Schema ids from a registry with the Confluent API (Confluent Schema Registry, Apicurio, Karapace, Redpanda).

Without a registry the ids of schemas/lock.json are used and nothing here is needed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

import httpx
import stamina

from schemas.codec import Codec, SchemaIds
from schemas.store import Released, self_contained
from schemas.topics import Topic

COMPATIBILITY = "BACKWARD_TRANSITIVE"


class RegistryError(Exception):
    """The registry is away or refuses; the message says which subject and why."""


class Registry:
    """A small client: register, look up by id, set compatibility. Blocks; every call is retried for a while on connection errors."""

    def __init__(self, url: str, timeout_s: float = 10.0) -> None:
        self._http = httpx.Client(
            base_url=url.rstrip("/"), timeout=timeout_s, headers={"Content-Type": "application/vnd.schemaregistry.v1+json"}
        )

    @stamina.retry(on=httpx.TransportError, attempts=5, timeout=30.0)
    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        answer = self._http.request(method, path, json=body)
        if answer.is_error:
            raise RegistryError(f"{method} {path}: {answer.status_code} {answer.text[:300]}")
        return answer.json()

    def require_compatibility(self) -> None:
        """Makes BACKWARD_TRANSITIVE the registry's rule.

        Raises:
            RegistryError: the registry refuses.
        """
        self._ask("PUT", "/config", {"compatibility": COMPATIBILITY})

    def register(self, topic: Topic) -> Released:
        """Registers the schema of a topic's values under `<topic>-value` and returns it with the registry's id.

        Raises:
            RegistryError: e.g. 409, the schema is not compatible with what is registered.
        """
        schema = self_contained(topic.record)
        subject = quote(f"{topic.name}-value", safe="")
        answer = self._ask("POST", f"/subjects/{subject}/versions", {"schema": json.dumps(schema), "schemaType": "AVRO"})
        return Released(int(answer["id"]), topic.record, int(answer.get("version", 1)), schema)

    def find(self, schema_id: int) -> Released | None:
        """The schema with this id, None where the registry has none.

        Raises:
            RegistryError: the registry fails otherwise.
        """
        try:
            answer = self._ask("GET", f"/schemas/ids/{schema_id}")
        except RegistryError as error:
            if " 404 " in str(error):
                return None
            raise
        schema = json.loads(answer["schema"])
        return Released(schema_id, f"{schema.get('namespace', '')}.{schema.get('name', '')}", 0, schema)


class RegistryIds(SchemaIds):
    """Ids of a registry: what is written with is registered at the start, what is read is looked up once and kept."""

    def __init__(self, registry: Registry, topics: Iterable[Topic]) -> None:
        super().__init__(registry.register(topic) for topic in topics)
        self._registry = registry
        self._unknown: set[int] = set()

    def find(self, schema_id: int) -> Released | None:
        """As `SchemaIds.find`; asks the registry once for an id it does not know. Unknown ids are remembered, at most 10,000."""
        found = self.by_id.get(schema_id)
        if found is None and schema_id not in self._unknown:
            found = self._registry.find(schema_id)
            if found is not None:
                self.by_id[schema_id] = found
            elif len(self._unknown) < 10_000:
                self._unknown.add(schema_id)
        return found


def make_codec(registry_url: str | None, topics: Iterable[Topic]) -> Codec:
    """A codec with ids from the registry, or from the lock file where none is configured.

    Raises:
        RegistryError: the registry refuses a schema.
        httpx.TransportError: the registry stays away.
    """
    if registry_url is None:
        return Codec()
    registry = Registry(registry_url)
    registry.require_compatibility()
    return Codec(RegistryIds(registry, topics))
