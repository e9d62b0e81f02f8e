"""What the local platform says when it cannot do what it was asked."""

from __future__ import annotations


class PlatformError(Exception):
    """Something the person at the keyboard has to put right.

    Attributes:
        message: what is wrong, one sentence.
        remedy: the one line that cures it (a command where there is one), or "" where none is known.
    """

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(f"{message}\n  remedy: {remedy}" if remedy else message)
        self.message = message
        self.remedy = remedy
