"""Problem details for HTTP APIs (RFC 9457): what a client is told when it does not get what it asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final
from urllib.parse import quote

import msgspec
from starlette.responses import Response

MEDIA_TYPE: Final = "application/problem+json"
TYPE_PREFIX: Final = "urn:usher:problem:"

_NO_HEADERS: Final[Mapping[str, str]] = {}


class FieldError(msgspec.Struct, frozen=True):
    """One thing that is wrong in a body.

    Fields:
        pointer: where, as a JSON pointer in a URI fragment (RFC 6901, section 6), e.g. `#/events/3/user_id`.
        code: what, as a code.
        detail: what, in words. Holds no value of the body.
    """

    pointer: str
    code: str
    detail: str


class _Document(msgspec.Struct, frozen=True, omit_defaults=True):
    type: str
    title: str
    status: int
    detail: str
    instance: str
    errors: tuple[FieldError, ...] = ()


@dataclass(frozen=True, slots=True)
class Problem:
    """A refusal, as a value.

    Attributes:
        status: HTTP status, 400 to 599.
        code: last part of the problem's type; docs/ingest.md lists all.
        title: what kind of problem this is; the same for every occurrence.
        detail: what happened this time.
        errors: what is wrong where, for problems of a body.
        headers: response headers, e.g. Retry-After.
    """

    status: int
    code: str
    title: str
    detail: str
    errors: tuple[FieldError, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)


def pointer(*parts: str | int) -> str:
    """A JSON pointer as a URI fragment (RFC 6901); without parts the whole document."""
    return "#" + "".join("/" + quote(str(part).replace("~", "~0").replace("/", "~1"), safe="~") for part in parts)


def problem_response(problem: Problem, request_id: str, headers: Mapping[str, str] = _NO_HEADERS) -> Response:
    """The problem as a response; `request_id` is its instance, the same as in our log lines."""
    document = _Document(
        TYPE_PREFIX + problem.code, problem.title, problem.status, problem.detail, f"urn:uuid:{request_id}", problem.errors
    )
    return Response(msgspec.json.encode(document), problem.status, {**headers, **problem.headers, "Cache-Control": "no-store"}, MEDIA_TYPE)


def plain_problem(status: int, detail: str, headers: Mapping[str, str] = _NO_HEADERS) -> Problem:
    """A problem that is nothing but its HTTP status, e.g. 404 or 405."""
    title = HTTPStatus(status).phrase
    return Problem(status, title.lower().replace(" ", "-").replace("'", ""), title, detail, headers=headers)
