"""Where viewers live and which addresses they have: the typed content of `geography.toml`."""

from __future__ import annotations

import functools
import ipaddress
import math
import random
import tomllib
from dataclasses import dataclass
from importlib import resources
from itertools import accumulate
from typing import Final, Literal

ConsentLaw = Literal["opt-in", "sale", "mixed"]

EARTH_RADIUS_KM: Final = 6371.0
MOBILE_SHARE: Final = 64
"""The last 1/64 of a country's first network stands for carrier-grade NAT."""


@dataclass(frozen=True, slots=True)
class City:
    """A place to live. Degrees, hours from UTC (no summer time); `region` is what a gateway there claims."""

    name: str
    country: str
    region: str
    is_eu: bool
    latitude: float
    longitude: float
    utc_offset_h: float
    weight: float

    @property
    def offset_ms(self) -> int:
        """Local time minus UTC, milliseconds."""
        return int(self.utc_offset_h * 3_600_000)


@dataclass(frozen=True, slots=True)
class Country:
    """A country with its access networks as (first address, number of addresses)."""

    code: str
    weight: float
    is_eu: bool
    consent: ConsentLaw
    cities: tuple[City, ...]
    networks: tuple[tuple[int, int], ...]
    networks6: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Exits:
    """Address blocks of one anonymising or hosting provider in one country."""

    code: str
    is_eu: bool
    vpn: bool
    networks: tuple[tuple[int, int], ...]


class Geography:
    """All countries and exits, with draws weighted by where viewers live. Free of state; every draw takes its generator."""

    def __init__(self, countries: tuple[Country, ...], exits: tuple[Exits, ...]) -> None:
        self.countries = countries
        self.exits = exits
        self.by_code = {one.code: one for one in countries}
        self.cities = tuple(city for country in countries for city in country.cities)
        weights = [
            country.weight * city.weight / sum(one.weight for one in country.cities) for country in countries for city in country.cities
        ]
        self._cumulative = tuple(accumulate(weights))

    def draw_city(self, rng: random.Random) -> City:
        """A city, as likely as viewers live there."""
        return rng.choices(self.cities, cum_weights=self._cumulative)[0]

    def draw_city_between(self, rng: random.Random, origin: City, nearest_km: float, farthest_km: float) -> City | None:
        """A city whose distance from `origin` lies in [nearest_km, farthest_km], or None when eight draws find none."""
        for _ in range(8):
            found = self.draw_city(rng)
            if nearest_km <= distance_km(origin, found) <= farthest_km:
                return found
        return None


def distance_km(one: City, other: City) -> float:
    """Great-circle distance by the haversine formula (R. W. Sinnott, Sky and Telescope 68, 1984)."""
    lat_1, lat_2 = math.radians(one.latitude), math.radians(other.latitude)
    half_lat = (lat_2 - lat_1) / 2
    half_lon = math.radians(other.longitude - one.longitude) / 2
    chord = math.sin(half_lat) ** 2 + math.cos(lat_1) * math.cos(lat_2) * math.sin(half_lon) ** 2
    return 2 * EARTH_RADIUS_KM * math.asin(math.sqrt(chord))


def draw_address(rng: random.Random, networks: tuple[tuple[int, int], ...]) -> str:
    """An IPv4 address of a subscriber: never a network's or broadcast address of a /24."""
    first, size = networks[0] if len(networks) == 1 else rng.choices(networks, weights=[one[1] for one in networks])[0]
    address = first + (rng.randrange(size) & ~0xFF) + rng.randint(2, 250)
    return _dotted(address)


def draw_mobile_address(rng: random.Random, country: Country, gateways: int) -> str:
    """The public address of one of the carrier-grade NAT gateways of the country's mobile operators: of `gateways` or as many as
    their block holds, eight a /24."""
    first, size = country.networks[0]
    pool = size // MOBILE_SHARE
    which = rng.randrange(min(gateways, pool // 256 * 8))
    return _dotted(first + size - pool + (which >> 3) * 256 + 16 + (which & 7) * 24)


def draw_prefix6(rng: random.Random, country: Country) -> int | None:
    """The /64 of a household, as the upper part of an address, or None where the country has no IPv6 block."""
    if not country.networks6:
        return None
    first, size = rng.choice(country.networks6)
    return first + (rng.randrange(size >> 64) << 64)


def address6(prefix: int, interface: int) -> str:
    """Address text (RFC 5952) of an interface, 1 <= interface < 2**64, in a /64."""
    return ipaddress.IPv6Address(prefix | interface).compressed


def _dotted(address: int) -> str:
    return f"{address >> 24}.{address >> 16 & 255}.{address >> 8 & 255}.{address & 255}"


def _blocks(texts: list[str]) -> tuple[tuple[int, int], ...]:
    networks = [ipaddress.ip_network(text) for text in texts]
    return tuple((int(one.network_address), one.num_addresses) for one in networks)


@functools.cache
def load_geography() -> Geography:
    """Reads `geography.toml` once."""
    found = tomllib.loads(resources.files(__package__).joinpath("geography.toml").read_text(encoding="utf-8"))
    countries = tuple(
        Country(
            code=one["code"],
            weight=float(one["weight"]),
            is_eu=one["eea"],
            consent=one["consent"],
            cities=tuple(
                City(name, one["code"], subdivision or one["code"], one["eea"], latitude, longitude, float(offset), float(weight))
                for name, latitude, longitude, offset, weight, subdivision in one["cities"]
            ),
            networks=_blocks(one["networks"]),
            networks6=_blocks(one["networks6"]),
        )
        for one in found["country"]
    )
    european = {one.code for one in countries if one.is_eu}
    exits = tuple(Exits(one["code"], one["code"] in european, one["kind"] == "vpn", _blocks(one["networks"])) for one in found["exit"])
    return Geography(countries, exits)
