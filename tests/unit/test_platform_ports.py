"""Choosing ports: last time's where it can be had, else the usual one, else one near it."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.local.errors import PlatformError
from deploy.local.ports import HOST, PortBook, choose, is_free


def test_a_free_preferred_port_is_taken() -> None:
    assert choose(9092, taken=(), free=lambda port: True) == 9092


def test_ports_in_use_and_ports_given_to_others_are_passed_over() -> None:
    assert choose(9092, taken={9093}, free=lambda port: port != 9092) == 9094


@given(
    preferred=st.integers(1, 65_535), taken=st.sets(st.integers(1, 65_535), max_size=50), used=st.sets(st.integers(1, 65_535), max_size=50)
)
def test_what_is_chosen_is_free_and_nobody_elses(preferred: int, taken: set[int], used: set[int]) -> None:
    try:
        port = choose(preferred, taken, lambda candidate: candidate not in used)
    except PlatformError:
        assert 65_535 - preferred < len(taken | used)
    else:
        assert port >= preferred
        assert port not in taken | used
        assert all(lower in taken | used for lower in range(preferred, port))


def test_when_nothing_is_free_it_says_so() -> None:
    with pytest.raises(PlatformError, match="no port from 65500"):
        choose(65_500, taken=(), free=lambda port: False)


def test_the_book_remembers_across_starts(tmp_path: Path) -> None:
    path = tmp_path / "ports.json"
    assert PortBook(path).assign("kafka", 9092, lambda port: port >= 9100) == 9100
    assert PortBook(path).assign("kafka", 9092, lambda port: True) == 9100


def test_the_book_keeps_two_servers_apart(tmp_path: Path) -> None:
    book = PortBook(tmp_path / "ports.json")
    first = book.assign("kafka", 9092, lambda port: port != 9092)
    assert (first, book.assign("kafka-controller", 9093, lambda port: True)) == (9093, 9094)


def test_the_book_chooses_again_when_the_port_was_lost(tmp_path: Path) -> None:
    book = PortBook(tmp_path / "ports.json")
    assert book.assign("kafka", 9092, lambda port: True) == 9092
    assert book.assign("kafka", 9092, lambda port: port != 9092) == 9093


@pytest.mark.parametrize("content", ["", "{", "[1]", json.dumps({"kafka": "9092", "postgres": 0, "valkey": 70_000})])
def test_a_damaged_book_counts_as_empty(tmp_path: Path, content: str) -> None:
    path = tmp_path / "ports.json"
    path.write_text(content)
    assert PortBook(path).assign("kafka", 9092, lambda port: True) == 9092


def test_a_port_that_is_listened_on_is_not_free() -> None:
    with socket.create_server((HOST, 0)) as listener:
        port = listener.getsockname()[1]
        assert not is_free(port)
    assert is_free(port)
