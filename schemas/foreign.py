"""Schemas that others wrote and a registry hands out: parsed only where reading with them is safe.

Two kinds of valid schemas let a few bytes break a reader. A record that holds itself makes it recurse as deep as the bytes say,
and fastavro's reader is C: it has no recursion limit, the process ends. Items or records of no bytes let one number stand for
2^60 items, or ten records within each other for 2^60 fields. Usher's records need neither.
"""

from __future__ import annotations

from typing import Any, Final

import fastavro

from schemas.store import without_logical_types

_LEAST_BYTES: Final = {"null": 0, "float": 4, "double": 8}
"""Of the kinds that do not take at least one byte, as numbers, texts, enums and unions do."""


class Unreadable(Exception):
    """A schema that cannot be used to read with; the text says why."""


def full_name(schema: Any) -> str | None:
    """The full name of an Avro record (Avro 1.12 specification, "Names"); None for everything that is not the object of a record."""
    if not isinstance(schema, dict) or schema.get("type") != "record":
        return None
    name, namespace = schema.get("name"), schema.get("namespace") or ""
    if not isinstance(name, str) or not isinstance(namespace, str) or not name:
        return None
    return name if "." in name or not namespace else f"{namespace}.{name}"


def parse_writer(schema: Any) -> Any:
    """A writer's schema as fastavro reads with it, without logical types.

    Raises:
        Unreadable: it is no valid schema, refers to others, holds itself, or has records or items that take no bytes.
    """
    try:
        parsed = fastavro.parse_schema(without_logical_types(schema))
    except Exception as error:
        # Whatever a parser meets in what may be any JSON: unknown names, missing keys, a list where a text belongs.
        raise Unreadable(f"no valid schema ({type(error).__name__})") from error
    _least_bytes(parsed, {}, set())
    return parsed


def _least_bytes(kind: Any, known: dict[str, int], open_names: set[str]) -> int:
    """Fewest bytes a value takes; `open_names` are the records around it."""
    if isinstance(kind, list):
        for branch in kind:
            _least_bytes(branch, known, open_names)
        return 1
    if isinstance(kind, str):
        if kind in open_names:
            raise Unreadable(f"{kind} holds itself")
        return known[kind] if kind in known else _LEAST_BYTES.get(kind, 1)
    name, base = kind.get("name"), kind["type"]
    if base == "record":
        open_names.add(name)
        least = sum(_least_bytes(field["type"], known, open_names) for field in kind["fields"])
        open_names.discard(name)
        if least == 0:
            raise Unreadable(f"{name} takes no bytes")
    elif base in ("array", "map"):
        if _least_bytes(kind["items" if base == "array" else "values"], known, open_names) == 0 and base == "array":
            raise Unreadable("an array's items take no bytes")
        least = 1
    elif base == "fixed":
        least = kind["size"]
    else:
        least = _LEAST_BYTES.get(base, 1)
    if name is not None:
        known[name] = least
    return least
