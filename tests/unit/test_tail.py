"""Following a topic, as far as it needs no Kafka."""

from __future__ import annotations

from typing import Any

import pytest

from schemas.codec import Codec
from schemas.topics import RAW
from streams import tail
from streams.registry import RegistryAway


def test_a_registry_that_is_away_is_waited_for_and_broken_bytes_are_skipped(monkeypatch: pytest.MonkeyPatch, raw: Any) -> None:
    monkeypatch.setattr(tail, "ASK_AGAIN_S", 0.0)
    codec = Codec()
    value = codec.encode(raw())
    failures = [RegistryAway("refused"), RegistryAway("refused")]
    find = codec.ids.find

    def failing(schema_id: int) -> Any:
        if failures:
            raise failures.pop()
        return find(schema_id)

    monkeypatch.setattr(codec.ids, "find", failing)
    assert list(tail._read(codec, value, RAW, lambda: False)) == [None, None, raw()]
    assert list(tail._read(codec, value[:-1], RAW, lambda: False)) == []
    assert list(tail._read(codec, value, RAW, lambda: True)) == []
