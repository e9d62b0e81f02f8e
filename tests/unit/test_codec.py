"""Bytes to records and back."""

import io
import struct

import fastavro
import pytest

from schemas.codec import CASE_RECORDS, Case, Codec, DecodeError, SchemaIds
from schemas.records import Breach, Compliance, Decision, Members, ModelArtefact, Network, RawEvent, Reason, Score, Verdict
from schemas.store import Released, released, self_contained

CODEC = Codec()
COMPLIANCE = Compliance(
    laws=("GDPR",), purpose="marketing", consent="DENIED", rules_version="r1", checked_at=5,
    breaches=(Breach(law="GDPR", rule="consent-missing", article="Art 6(1)(a)", severity="HIGH", facts="no consent"),),
)  # fmt: skip
REASON = Reason(code="new-device", contribution=0.5, detail="first time")
SCORE = Score(
    risk=0.5, members=Members(rules=0.25), reasons=(REASON,), segment="new", model_version="m1", features=(1.0, 2.5), feature_version="f1", scored_at=6
)  # fmt: skip
NETWORK = Network(links=("device:1",), ring_id="r", ring_size=5, ring_risk=0.5, evidence=("ip:1",), linked_at=7)
VERDICT = Verdict(outcome="BLOCK", risk=0.75, threshold=0.5, severity="HIGH", reasons=(REASON,), policy_version="p1", decided_at=8)


def full_case(event) -> Case:
    return Case(event(), COMPLIANCE, SCORE, NETWORK, VERDICT)


def code_of(data, expected=None) -> str:
    with pytest.raises(DecodeError) as caught:
        CODEC.decode(data, expected)
    return caught.value.code


@pytest.mark.parametrize("name", CASE_RECORDS)
def test_a_case_comes_back_with_the_pieces_of_its_record(event, name) -> None:
    case = full_case(event)
    back = CODEC.decode(CODEC.encode_case(case, name), name)
    count = CASE_RECORDS.index(name) + 1
    assert back.pieces() == case.pieces()[:count]
    assert len(back.parts) == count


def test_splicing_gives_the_bytes_that_encoding_the_whole_record_gives(event) -> None:
    case = full_case(event)
    whole = Decision(event=case.event, compliance=COMPLIANCE, score=SCORE, network=NETWORK, verdict=VERDICT)
    assert CODEC.encode_case(case, "ott.Decision") == CODEC.encode(whole)


def test_a_piece_that_came_as_bytes_is_passed_on_untouched(event) -> None:
    first = CODEC.encode_case(Case(event()), "ott.ValidEvent")
    case = CODEC.decode(first)
    case.compliance = COMPLIANCE
    second = CODEC.encode_case(case, "ott.CheckedEvent")
    assert second[5:].startswith(first[5:])


def test_the_wire_format_is_confluents(raw) -> None:
    data = CODEC.encode(raw())
    magic, schema_id = struct.unpack(">bI", data[:5])
    assert magic == 0
    version = CODEC.ids.find(schema_id)
    assert version is not None
    found = fastavro.schemaless_reader(io.BytesIO(data[5:]), fastavro.parse_schema(version.schema), None)
    assert found["event_id"] == "evt-1"
    assert found["timestamp"].year == 2026  # a stock reader sees a time, not a number


def test_a_time_may_be_text_in_a_raw_event(raw) -> None:
    back = CODEC.decode(CODEC.encode(raw(timestamp="2026-01-16T12:34:56Z")))
    assert isinstance(back, RawEvent)
    assert back.timestamp == "2026-01-16T12:34:56Z"


def test_each_kind_of_broken_bytes_has_its_reason(raw, event) -> None:
    data = CODEC.encode(raw())
    assert code_of(None) == code_of(b"") == "empty-value"
    assert code_of(b"\x00\x00") == "truncated"
    assert code_of(b"\x01" + data[1:]) == "bad-magic"
    assert code_of(b"\x00\x00\x0f\x42\x40" + data[5:]) == "unknown-schema-id"
    assert code_of(data, "ott.Alert") == "wrong-schema"
    assert code_of(data + b"\x00") == "trailing-bytes"
    assert code_of(CODEC.encode_case(Case(event()), "ott.ValidEvent") + b"\x00") == "trailing-bytes"
    assert code_of(data[:5] + b"\x04\xff\xff" + data[8:]) in ("wrong-types", "truncated")


def test_every_truncation_is_refused(raw) -> None:
    data = CODEC.encode(raw())
    for end in range(5, len(data)):
        assert code_of(data[:end]) in ("truncated", "wrong-types", "trailing-bytes")


def older_alert() -> tuple[Codec, bytes]:
    schema = self_contained("ott.Alert")
    old = {**schema, "fields": [*schema["fields"], {"name": "gone", "type": "string"}]}
    codec = Codec(SchemaIds([Released(900, "ott.Alert", 1, old), *released()]))
    out = io.BytesIO(struct.pack(">bI", 0, 900))
    out.seek(5)
    record = {field["name"]: 1 if "_" in field["name"] and field["name"] in ("event_time", "raised_at") else "x" for field in old["fields"]}
    fastavro.schemaless_writer(out, fastavro.parse_schema(old), record | {"severity": "LOW"})
    return codec, out.getvalue()


def test_an_older_version_is_resolved_to_the_current_record() -> None:
    codec, data = older_alert()
    alert = codec.decode(data, "ott.Alert")
    assert alert.severity == "LOW"
    assert not hasattr(alert, "gone")


def test_an_older_case_is_resolved_and_encoded_anew(event) -> None:
    schema = self_contained("ott.ValidEvent")
    old = {**schema, "fields": [*schema["fields"], {"name": "note", "type": "string"}]}
    codec = Codec(SchemaIds([Released(901, "ott.ValidEvent", 1, old), *released()]))
    body = CODEC.encode_case(Case(event()), "ott.ValidEvent")[5:]
    case = codec.decode(struct.pack(">bI", 0, 901) + body + b"\x02x")
    assert case.event == event()
    assert case.parts == ()
    assert codec.encode_case(case, "ott.ValidEvent")[5:] == body


def test_bytes_in_a_record_are_written_as_they_are() -> None:
    model = ModelArtefact(name="m", version="1", format="zstd", payload=b"\x00\xff", sha256="0", trained_at=5, metrics={"auc": 0.5})
    assert CODEC.decode(CODEC.encode(model)) == model


def test_a_record_that_does_not_fit_is_a_bug_of_the_caller(raw) -> None:
    with pytest.raises((ValueError, TypeError, AttributeError)):
        CODEC.encode(raw(amount="much"))
