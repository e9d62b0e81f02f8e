"""Bytes to records and back, in the Confluent wire format: 0x00, a 4-byte big-endian schema id, the Avro body.

The event topics are built from pieces (event, compliance, score, network, verdict). An Avro record is the concatenation
of its fields' encodings (Avro 1.12 specification, "Records"), so a stage that adds a piece encodes only that piece and
splices it to the bytes it received: `Case.parts` carries them. Cost: a piece is encoded once on its way, not once a topic.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import fastavro
import msgspec
from fastavro.read import SchemaResolutionError

from schemas import records
from schemas.foreign import Unreadable, parse_writer
from schemas.records import RECORDS, Compliance, Event, Network, Score, Verdict
from schemas.store import Released, released, self_contained, without_logical_types

MAGIC: Final = 0
HEADER: Final = struct.Struct(">bI")

PIECES: Final[dict[str, type[msgspec.Struct]]] = {
    "event": Event,
    "compliance": Compliance,
    "score": Score,
    "network": Network,
    "verdict": Verdict,
}
"""What a case gathers on its way, in the order in which stages add it."""

CASE_RECORDS: Final = ("ott.ValidEvent", "ott.CheckedEvent", "ott.ScoredEvent", "ott.LinkedEvent", "ott.Decision")
"""Records that hold the first 1, 2, … 5 pieces."""


class DecodeError(Exception):
    """Bytes that are not a record; `code` is a documented dead-letter reason (see docs/dead-letters.md)."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


@dataclass(slots=True)
class Case:
    """An event and what the stages have found about it so far. `parts` are the pieces' Avro bytes, one a piece."""

    event: Event
    compliance: Compliance | None = None
    score: Score | None = None
    network: Network | None = None
    verdict: Verdict | None = None
    parts: tuple[bytes, ...] = ()

    def pieces(self) -> list[msgspec.Struct]:
        """The pieces there are, in order."""
        found = (self.event, self.compliance, self.score, self.network, self.verdict)
        return [piece for piece in found if piece is not None]


def _case(pieces: Sequence[Any], parts: tuple[bytes, ...] = ()) -> Case:
    """A case from its pieces, in order."""
    case = Case(*pieces)
    case.parts = parts
    return case


def _parse(schema: Any) -> Any:
    return fastavro.parse_schema(without_logical_types(schema))


def _writer_of(version: Released) -> Any:
    """As `Codec._writer`, or the `Unreadable` that says why there is none."""
    try:
        writer = parse_writer(version.schema)
    except Unreadable as problem:
        return problem
    same = without_logical_types(version.schema) == without_logical_types(self_contained(version.record))
    return None if same else writer


class _Piece:
    """Reader and writer of one piece or plain record."""

    __slots__ = ("kind", "schema")

    def __init__(self, name: str) -> None:
        self.schema = _parse(self_contained(name))
        self.kind = RECORDS[name]

    def write(self, record: msgspec.Struct) -> bytes:
        out = io.BytesIO()
        fastavro.schemaless_writer(out, self.schema, msgspec.to_builtins(record, builtin_types=(bytes,)))
        return out.getvalue()


class SchemaIds:
    """Which schema an id on the wire stands for, and which id a record is written with."""

    def __init__(self, versions: Iterable[Released]) -> None:
        self.by_id: dict[int, Released] = {}
        self.current: dict[str, int] = {}
        for one in versions:
            self.add(one)

    def add(self, one: Released) -> None:
        """Learns a version; the newest one of a record is written with."""
        self.by_id[one.id] = one
        self.current[one.record] = one.id

    def find(self, schema_id: int) -> Released | None:
        """The version with this id, or None. Ids of a registry override this, look there, and raise when the registry cannot say."""
        return self.by_id.get(schema_id)


class Codec:
    """Encodes and decodes every record. Not thread-safe where `ids` looks up a registry; otherwise free of state."""

    def __init__(self, ids: SchemaIds | None = None) -> None:
        self.ids = ids or SchemaIds(released())
        self._plain = {name: _Piece(name) for name in RECORDS}
        self._pieces = [_Piece(f"ott.{kind.__name__}") for kind in PIECES.values()]
        self._whole = {name: _parse(self_contained(name)) for name in CASE_RECORDS}
        self._writers: dict[int, Any] = {}

    def header(self, name: str) -> bytes:
        """The five bytes before a body of record `name`."""
        return HEADER.pack(MAGIC, self.ids.current[name])

    def encode(self, record: msgspec.Struct) -> bytes:
        """A plain record as bytes.

        Raises:
            ValueError, TypeError: a field does not fit the schema (a bug of the caller).
        """
        name = f"ott.{type(record).__name__}"
        return self.header(name) + self._plain[name].write(record)

    def encode_case(self, case: Case, name: str) -> bytes:
        """A case as record `name` (one of `CASE_RECORDS`); encodes only the pieces that `case.parts` lacks."""
        wanted = CASE_RECORDS.index(name) + 1
        parts = case.parts
        if len(parts) < wanted:
            pieces = case.pieces()
            parts = parts + tuple(self._pieces[i].write(pieces[i]) for i in range(len(parts), wanted))
            case.parts = parts
        return self.header(name) + b"".join(parts[:wanted])

    def decode(self, data: bytes | None, expected: str | None = None) -> msgspec.Struct | Case:
        """A record, or a `Case` for the records that are made of pieces.

        Args:
            data: key's or value's bytes as Kafka holds them.
            expected: full name of the record that must be there; None takes what the id says.

        Raises:
            DecodeError: with code empty-value, bad-magic, unknown-schema-id, wrong-schema, truncated, trailing-bytes or wrong-types.
                Nothing else comes of bytes, whatever they are and whatever schema their id names.
            Exception: what `ids.find` raises when it cannot say what an id is. That is no fault of the record: nothing may be
                concluded from it, the batch has to be read again.
        """
        if not data:
            raise DecodeError("empty-value", "the value is null or empty")
        if len(data) < HEADER.size:
            raise DecodeError("truncated", f"{len(data)} bytes are less than the 5-byte header")
        magic, schema_id = HEADER.unpack_from(data)
        if magic != MAGIC:
            raise DecodeError("bad-magic", f"first byte is 0x{magic & 255:02x}, not 0x00")
        version = self.ids.find(schema_id)
        if version is None:
            raise DecodeError("unknown-schema-id", f"schema id {schema_id} is not known")
        name = version.record
        if expected is not None and name != expected:
            raise DecodeError("wrong-schema", f"schema id {schema_id} is {name}, not {expected}")
        if name not in RECORDS:
            raise DecodeError("wrong-schema", f"schema id {schema_id} is {name}, which is none of Usher's records")
        writer = self._writer(version)
        stream = io.BytesIO(data)
        stream.seek(HEADER.size)
        try:
            if writer is not None:
                return self._decode_older(stream, name, writer)
            if name in CASE_RECORDS:
                return self._decode_case(stream, data, CASE_RECORDS.index(name) + 1)
            found = fastavro.schemaless_reader(stream, self._plain[name].schema, None)
            self._check_end(stream, data)
            return msgspec.convert(found, RECORDS[name])
        except DecodeError:
            raise
        except SchemaResolutionError as error:
            # Some differences only show at the value: a branch of a union that ours does not have.
            raise DecodeError("wrong-schema", f"schema id {schema_id} does not resolve to {name}") from error
        except (EOFError, IndexError, struct.error) as error:
            raise DecodeError("truncated", f"the body ends early ({type(error).__name__})") from error
        except (msgspec.ValidationError, UnicodeDecodeError, ValueError, TypeError, OverflowError, MemoryError, KeyError) as error:
            raise DecodeError("wrong-types", f"the body does not fit the schema: {str(error)[:200]}") from error

    def _check_end(self, stream: io.BytesIO, data: bytes) -> None:
        left = len(data) - stream.tell()
        if left:
            raise DecodeError("trailing-bytes", f"{left} bytes follow the record")

    def _writer(self, version: Released) -> Any:
        """The writer's schema to resolve from; None where its bytes are laid out as ours are."""
        if version.id not in self._writers:
            self._writers[version.id] = _writer_of(version)
        writer = self._writers[version.id]
        if isinstance(writer, Unreadable):
            raise DecodeError("wrong-schema", f"schema id {version.id} cannot be used: {writer}")
        return writer

    def _decode_case(self, stream: io.BytesIO, data: bytes, count: int) -> Case:
        found: list[Any] = []
        parts: list[bytes] = []
        start = HEADER.size
        for piece in self._pieces[:count]:
            found.append(msgspec.convert(fastavro.schemaless_reader(stream, piece.schema, None), piece.kind))
            end = stream.tell()
            parts.append(data[start:end])
            start = end
        self._check_end(stream, data)
        return _case(found, tuple(parts))

    def _decode_older(self, stream: io.BytesIO, name: str, writer: Any) -> msgspec.Struct | Case:
        """Reads with the writer's schema and resolves to ours (Avro 1.12 specification, "Schema Resolution")."""
        reader = self._whole.get(name) or self._plain[name].schema
        found = fastavro.schemaless_reader(stream, writer, reader)
        self._check_end(stream, stream.getvalue())
        if name in CASE_RECORDS:
            names: Mapping[str, Any] = found
            return _case([msgspec.convert(names[key], kind) for key, kind in PIECES.items() if key in names])
        return msgspec.convert(found, RECORDS[name])


__all__ = ["CASE_RECORDS", "PIECES", "Case", "Codec", "DecodeError", "SchemaIds", "records"]
