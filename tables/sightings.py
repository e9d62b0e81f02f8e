"""Bounded sets of what a user was seen with: devices, addresses, networks, countries.

A sighting keeps the time of the first good use, of the last sight, and the number of good uses. Sights that prove
nothing (a failed login) leave `uses` alone: an attacker does not make a device familiar by failing with it.

Distinct counts: an item is in a window if and only if it was last seen in it (windows end at the clock, see
`tables.windows`), so the count is exact while at most `cap` distinct items were ever seen, in any order of arrival. Beyond
that the least used, longest unseen item is forgotten and the count is a lower bound.
"""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from hashlib import blake2b

import msgspec

from tables.windows import Window


class Sighting(msgspec.Struct, array_like=True):
    """One item.

    Attributes:
        item: fingerprint of the item (64 bits), see `fingerprint`.
        first_s: event time of the first good use (Unix s); 0 while there is none.
        last_s: event time of the latest sight (Unix s).
        uses: good uses.
    """

    item: int
    first_s: int
    last_s: int
    uses: int

    def familiar(self, at_s: int, *, after_s: int, uses: int) -> bool:
        """Whether it was well used for `after_s` seconds before `at_s`, at least `uses` times."""
        return self.uses >= uses and at_s - self.first_s >= after_s


def fingerprint(text: str) -> int:
    """64-bit BLAKE2b of a text: state holds no raw identifiers, and nobody can choose a colliding one cheaply."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")


@lru_cache(maxsize=65_536)
def network_of(address: str) -> str:
    """The /24 (IPv4) or /48 (IPv6) an address lies in, as text; the text itself where it is no address."""
    if "." in address and ":" not in address:
        return address.rpartition(".")[0]
    try:
        return str(ipaddress.ip_network((address, 48), strict=False))
    except ValueError:
        return address


def find(sightings: list[Sighting], item: int) -> Sighting | None:
    """The sighting of an item, or None."""
    for one in sightings:
        if one.item == item:
            return one
    return None


def note(sightings: list[Sighting], item: int, at_s: int, *, good: bool, cap: int) -> None:
    """Notes that `item` was seen at `at_s`; `good` when the sight speaks for it. Keeps at most `cap` items."""
    for one in sightings:
        if one.item == item:
            if at_s > one.last_s:
                one.last_s = at_s
            if good:
                one.first_s = min(one.first_s, at_s) if one.uses else at_s
                one.uses += 1
            return
    if len(sightings) >= cap:
        sightings.remove(min(sightings, key=lambda one: (min(one.uses, 3), one.last_s)))
    sightings.append(Sighting(item, at_s if good else 0, at_s, int(good)))


def distinct(sightings: list[Sighting], window: Window, clock_s: int) -> int:
    """How many items were seen in the window that ends at `clock_s` (Unix s)."""
    oldest = (clock_s // window.bucket_s - window.buckets + 1) * window.bucket_s
    return sum([one.last_s >= oldest for one in sightings])
