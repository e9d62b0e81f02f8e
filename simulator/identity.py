"""Ids that are unique by construction and tell nothing: neither order nor what they stand for."""

from __future__ import annotations

import random
from typing import Final

_MASK: Final = (1 << 64) - 1


class Mint:
    """Strikes ids: a counter passed through a bijection of 64-bit numbers.

    The bijection is the finaliser of SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, OOPSLA
    2014, "mix64variant13"), so two ids of one mint never coincide, whatever the seed.
    """

    __slots__ = ("_next",)

    def __init__(self, rng: random.Random) -> None:
        self._next = rng.getrandbits(64)

    def number(self) -> int:
        """The next number, 0 <= number < 2**64, never given before."""
        self._next = (self._next + 1) & _MASK
        mixed = self._next
        mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK
        return mixed ^ (mixed >> 31)

    def text(self) -> str:
        """The next number as 16 hexadecimal digits."""
        return f"{self.number():016x}"
