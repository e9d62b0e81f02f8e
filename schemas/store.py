"""Loads the `.avsc` files and the lock file of released versions.

`lock.json` keeps every version of every record that was ever released, with the schema id that stands in the Confluent
wire format where no registry is configured. It is committed: ids never change and are never used twice.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

AVRO_DIR = Path(__file__).parent / "avro"
LOCK_FILE = Path(__file__).parent / "lock.json"

Schema = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Released:
    """One released version of a record: its id on the wire (>= 1), its record name, and its self-contained schema."""

    id: int
    record: str
    version: int
    schema: Schema


def _names(kind: Any) -> Iterator[str]:
    if isinstance(kind, str):
        if kind.startswith("ott."):
            yield kind
    elif isinstance(kind, list):
        for one in kind:
            yield from _names(one)
    else:
        for key in ("type", "items", "values"):
            if key in kind and not (key == "type" and kind["type"] in ("record", "enum")):
                yield from _names(kind[key])
        for field in kind.get("fields", ()):
            yield from _names(field["type"])


@functools.cache
def load_all() -> Mapping[str, Schema]:
    """Every schema by full name, as written, in an order in which a name is defined before it is used."""
    raw = {path.stem: json.loads(path.read_text()) for path in sorted(AVRO_DIR.glob("*.avsc"))}
    ordered: dict[str, Schema] = {}

    def visit(name: str) -> None:
        if name not in ordered:
            for other in _names(raw[name]):
                visit(other)
            ordered[name] = raw[name]

    for name in raw:
        visit(name)
    return ordered


def _inline(kind: Any, seen: set[str]) -> Any:
    if isinstance(kind, str):
        if not kind.startswith("ott.") or kind in seen:
            return kind
        return _inline(load_all()[kind], seen)
    if isinstance(kind, list):
        return [_inline(one, seen) for one in kind]
    copy = dict(kind)
    if "name" in copy and copy["type"] in ("record", "enum"):
        seen.add(f"{copy['namespace']}.{copy['name']}")
    if "fields" in copy:
        copy["fields"] = [field | {"type": _inline(field["type"], seen)} for field in copy["fields"]]
    elif copy["type"] not in ("record", "enum"):
        for key in ("type", "items", "values"):
            if key in copy:
                copy[key] = _inline(copy[key], seen)
    return copy


@functools.cache
def self_contained(name: str) -> Schema:
    """The schema `name` with every schema it refers to written inside it, as registries and stock clients want it.

    Raises:
        KeyError: there is no such schema.
    """
    return _inline(load_all()[name], set())  # type: ignore[no-any-return]


def without_logical_types(kind: Any) -> Any:
    """The same binary layout without logical types: Usher keeps times as integers, which is faster and exact."""
    if isinstance(kind, list):
        return [without_logical_types(one) for one in kind]
    if not isinstance(kind, dict):
        return kind
    if "logicalType" in kind:
        return kind["type"]
    copy = {key: value for key, value in kind.items() if key not in ("doc",)}
    for key in ("type", "items", "values"):
        if key in copy:
            copy[key] = without_logical_types(copy[key])
    if "fields" in copy:
        copy["fields"] = [without_logical_types(field) for field in copy["fields"]]
    return copy


@functools.cache
def released() -> tuple[Released, ...]:
    """Every released version of every record, from the lock file, oldest first.

    Raises:
        ValueError: the lock file uses an id twice.
    """
    rows = json.loads(LOCK_FILE.read_text())["released"] if LOCK_FILE.exists() else []
    found = tuple(Released(row["id"], row["record"], row["version"], row["schema"]) for row in rows)
    if len({one.id for one in found}) != len(found):
        raise ValueError(f"{LOCK_FILE}: a schema id is used twice")
    return found


def lock(records: Iterable[str]) -> list[Released]:
    """Adds a version to the lock file for each record whose schema changed; returns what was added.

    The caller checks compatibility first (`usher schemas lock` does).
    """
    known = list(released())
    added: list[Released] = []
    for name in records:
        versions = [one for one in known if one.record == name]
        schema = self_contained(name)
        if not versions or versions[-1].schema != schema:
            new = Released(max((one.id for one in known), default=0) + 1, name, len(versions) + 1, schema)
            known.append(new)
            added.append(new)
    if added:
        rows = [{"id": one.id, "record": one.record, "version": one.version, "schema": one.schema} for one in known]
        LOCK_FILE.write_text(json.dumps({"released": rows}, indent=1, ensure_ascii=False) + "\n")
        released.cache_clear()
    return added
