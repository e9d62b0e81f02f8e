"""What holds for every seed and every event."""

from __future__ import annotations

import ipaddress
import json
import os
import random
import subprocess
import sys
from itertools import islice
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.records import RawEvent
from simulator import LabelledEvent, SimulationConfig, from_json, generate, read_line, to_json_line
from simulator.geography import City, address6, distance_km, draw_address, draw_mobile_address, draw_prefix6, load_geography
from simulator.identity import Mint

ROOT = Path(__file__).parents[2]
SEEDS = st.integers(min_value=-(2**40), max_value=2**40)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
METADATA = st.none() | st.dictionaries(
    TEXT.filter(lambda name: name != "unknown_fields"),
    st.recursive(st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXT, lambda inner: st.lists(inner, max_size=3), max_leaves=5),
    max_size=4,
)
EVENTS = st.builds(
    RawEvent,
    event_id=TEXT,
    user_id=TEXT,
    device_id=TEXT,
    content_id=TEXT,
    event_type=TEXT,
    timestamp=st.integers(-(2**62), 2**62) | TEXT,
    region=TEXT,
    is_eu=st.booleans(),
    has_consent=st.booleans(),
    ip_address=TEXT,
    subscription_plan=st.none() | TEXT,
    error_code=st.none() | TEXT,
    extra_metadata=METADATA.map(lambda found: None if found is None else json.dumps(found, ensure_ascii=False, separators=(",", ":"))),
    payment_token=st.none() | TEXT,
    session_id=st.none() | TEXT,
    amount=st.none() | st.floats(allow_nan=False, allow_infinity=False),
    tenant_id=st.none() | TEXT,
)


def lines(seed: int, events: int = 600) -> list[str]:
    return [to_json_line(one, labels=True) for one in generate(SimulationConfig(seed=seed, events=events, misbehaviour_rate=0.1))]


@settings(max_examples=8, deadline=None)
@given(SEEDS)
def test_a_seed_gives_the_same_bytes_again_and_another_gives_others(seed: int) -> None:
    first = lines(seed)
    assert first == lines(seed)
    assert not {json.loads(line)["event_id"] for line in first} & {json.loads(line)["event_id"] for line in lines(seed + 1)}


def test_a_seed_gives_the_same_bytes_in_another_process_whatever_its_hash_seed() -> None:
    program = (
        "import hashlib\nfrom simulator import *\ndigest = hashlib.sha256()\n"
        "for one in generate(SimulationConfig(seed=6, events=5000, dirt_rate=0.05, tenants=2)): digest.update(to_json_line(one, True).encode())\n"
        "print(digest.hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", program],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(digests) == 1


@settings(max_examples=8, deadline=None)
@given(SEEDS, st.integers(min_value=10, max_value=200))
def test_the_stream_is_lazy_and_its_beginning_does_not_depend_on_how_far_it_is_read(seed: int, read: int) -> None:
    config = SimulationConfig(seed=seed, events=100_000, users=25)
    assert list(islice(generate(config), read)) == list(islice(generate(config), 2 * read))[:read]


@settings(max_examples=300, deadline=None)
@given(EVENTS, TEXT)
def test_every_event_is_read_as_it_was_written(event: RawEvent, label: str) -> None:
    found = read_line(to_json_line(LabelledEvent(event, label), labels=True), 1)
    assert not hasattr(found, "reason"), found
    assert (found.event, found.label) == (event, label)  # type: ignore[union-attr]


@settings(max_examples=100)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | TEXT, lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner)
    )
)
def test_reading_never_raises(found: object) -> None:
    from_json(found)


@settings(max_examples=100)
@given(st.binary(max_size=60))
def test_reading_bytes_never_raises(line: bytes) -> None:
    read_line(line, 1)


@given(SEEDS)
def test_ids_are_unique(seed: int) -> None:
    mint = Mint(random.Random(seed))
    assert len({mint.text() for _ in range(2_000)}) == 2_000


@given(SEEDS, st.integers(min_value=1, max_value=500))
def test_addresses_lie_in_the_networks_of_their_country(seed: int, gateways: int) -> None:
    rng = random.Random(seed)
    country = rng.choice(load_geography().countries)
    for address in (draw_address(rng, country.networks), draw_mobile_address(rng, country, gateways)):
        number = int(ipaddress.IPv4Address(address))
        assert any(first <= number < first + size for first, size in country.networks)
        assert number & 255 not in (0, 255)
        assert ipaddress.IPv4Address(address).is_global
    prefix = draw_prefix6(rng, country)
    if prefix is not None:
        found = int(ipaddress.IPv6Address(address6(prefix, 1 + rng.getrandbits(63))))
        assert any(first <= found < first + size for first, size in country.networks6)


CITIES = st.sampled_from(load_geography().cities)


@given(CITIES, CITIES, CITIES)
def test_distances_are_a_metric(a: City, b: City, c: City) -> None:
    assert distance_km(a, b) == distance_km(b, a)
    assert (distance_km(a, b) < 1e-6) == (a == b)
    assert distance_km(a, c) <= distance_km(a, b) + distance_km(b, c) + 1e-6
    assert distance_km(a, b) <= 20_016
