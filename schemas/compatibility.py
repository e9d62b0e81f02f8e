"""Schema evolution: BACKWARD_TRANSITIVE, as Confluent's registry defines it (a new schema reads data of every older one)."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from avro.compatibility import ReaderWriterCompatibilityChecker, SchemaCompatibilityType
from avro.schema import parse

from schemas.store import Released, Schema, self_contained, without_logical_types


@dataclass(frozen=True, slots=True)
class Incompatible:
    """A new schema that cannot read data written with an older version."""

    record: str
    version: int
    problems: tuple[str, ...]


def check_reads(reader: Schema, writer: Schema) -> tuple[str, ...]:
    """Why `reader` cannot read what `writer` wrote; empty when it can (Avro 1.12 specification, "Schema Resolution")."""
    plain = [parse(json.dumps(without_logical_types(schema))) for schema in (reader, writer)]
    result = ReaderWriterCompatibilityChecker().get_compatibility(plain[0], plain[1])
    if result.compatibility is SchemaCompatibilityType.compatible:
        return ()
    return tuple(f"{place}: {message}" for place, message in zip(result.locations, result.messages, strict=False)) or ("incompatible",)


def check_backward_transitive(record: str, older: Iterable[Released], schema: Schema | None = None) -> list[Incompatible]:
    """Every released version of `record` whose data the schema (default: the one in `schemas/avro`) could not read."""
    schema = schema or self_contained(record)
    tried = ((version, check_reads(schema, version.schema)) for version in older if version.record == record)
    return [Incompatible(record, version.version, problems) for version, problems in tried if problems]
