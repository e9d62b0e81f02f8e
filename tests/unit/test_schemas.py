"""The contract: schemas, generated records, ids and their evolution."""

import copy
import json
from pathlib import Path

import pytest

from schemas import generate, store
from schemas.compatibility import check_backward_transitive, check_reads
from schemas.records import RECORDS
from schemas.store import Released, load_all, released, self_contained, without_logical_types
from schemas.topics import ALL


def test_records_are_generated_from_the_schemas_as_they_stand() -> None:
    squeeze = lambda text: "".join(text.split()).replace(",)", ")").replace(",]", "]").replace(",}", "}")  # noqa: E731
    current = Path(generate.__file__).with_name("records.py").read_text()
    assert squeeze(generate.render()) == squeeze(current), "run `usher schemas generate`"


@pytest.mark.parametrize("topic", ALL, ids=lambda topic: topic.name)
def test_every_topic_has_a_locked_schema_that_is_current(topic) -> None:
    versions = [one for one in released() if one.record == topic.record]
    assert versions, "run `usher schemas lock`"
    assert versions[-1].schema == self_contained(topic.record), "a schema changed: run `usher schemas lock`"
    assert [one.version for one in versions] == list(range(1, len(versions) + 1))


@pytest.mark.parametrize("topic", ALL, ids=lambda topic: topic.name)
def test_every_schema_reads_every_released_version(topic) -> None:
    assert check_backward_transitive(topic.record, released()) == []


def test_a_field_without_default_is_found_incompatible() -> None:
    changed = copy.deepcopy(self_contained("ott.Feedback"))
    changed["fields"].append({"name": "score", "type": "double", "doc": "x"})
    (problem,) = check_backward_transitive("ott.Feedback", released(), changed)
    assert problem.version == 1
    assert "score" in " ".join(problem.problems)


def test_a_field_with_default_and_a_widened_type_are_compatible() -> None:
    changed = copy.deepcopy(self_contained("ott.UserRing"))
    changed["fields"].append({"name": "note", "type": "string", "default": "", "doc": "x"})
    next(field for field in changed["fields"] if field["name"] == "size")["type"] = "long"
    assert check_reads(changed, self_contained("ott.UserRing")) == ()


def test_an_enum_that_loses_a_symbol_still_reads_it_by_its_default() -> None:
    changed = copy.deepcopy(self_contained("ott.ValidEvent"))
    event = changed["fields"][0]["type"]
    kind = next(field for field in event["fields"] if field["name"] == "event_type")["type"]
    kind["symbols"].remove("SEEK")
    assert check_reads(changed, self_contained("ott.ValidEvent")) == ()
    assert all(schema["default"] == "UNKNOWN" for schema in load_all().values() if schema["type"] == "enum")


def test_times_are_logical_types_and_everything_is_documented() -> None:
    for name, schema in load_all().items():
        assert schema["doc"], name
        for field in schema.get("fields", ()):
            assert field["doc"], f"{name}.{field['name']}"
            if field["name"].endswith("_at") or field["name"] in ("timestamp", "event_time"):
                assert "timestamp-millis" in json.dumps(field["type"]), f"{name}.{field['name']}"


def test_logical_types_can_be_stripped_without_changing_the_layout() -> None:
    assert "logicalType" not in json.dumps(without_logical_types(self_contained("ott.Decision")))


def test_every_record_schema_has_a_typed_record() -> None:
    assert set(RECORDS) == {name for name, schema in load_all().items() if schema["type"] == "record"}


def test_a_lock_file_with_a_repeated_id_is_refused(tmp_path, monkeypatch) -> None:
    row = {"id": 1, "record": "ott.Alert", "version": 1, "schema": {}}
    (tmp_path / "lock.json").write_text(json.dumps({"released": [row, row]}))
    monkeypatch.setattr(store, "LOCK_FILE", tmp_path / "lock.json")
    released.cache_clear()
    try:
        with pytest.raises(ValueError, match="used twice"):
            released()
    finally:
        monkeypatch.undo()
        released.cache_clear()


def test_locking_adds_a_version_only_for_a_changed_schema(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(store, "LOCK_FILE", tmp_path / "lock.json")
    released.cache_clear()
    try:
        first = store.lock(["ott.Alert", "ott.Action"])
        assert [(one.id, one.version) for one in first] == [(1, 1), (2, 1)]
        assert store.lock(["ott.Alert", "ott.Action"]) == []
        older = Released(1, "ott.Alert", 1, {"type": "record", "name": "Alert", "namespace": "ott", "fields": []})
        rows = [{"id": one.id, "record": one.record, "version": one.version, "schema": one.schema} for one in (older, first[1])]
        (tmp_path / "lock.json").write_text(json.dumps({"released": rows}))
        released.cache_clear()
        assert [(one.id, one.version) for one in store.lock(["ott.Alert", "ott.Action"])] == [(3, 2)]
    finally:
        monkeypatch.undo()
        released.cache_clear()
