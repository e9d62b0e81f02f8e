"""What the OpenAPI document says about the ingest endpoint. The schema of an event comes from its Avro schema, so the two agree."""

from __future__ import annotations

from typing import Any, Final

from api.bodies import AVRO_BINARY, AVRO_WIRE, JSON
from api.problems import MEDIA_TYPE
from schemas.store import self_contained
from schemas.topics import RAW

EXAMPLE: Final[dict[str, Any]] = {
    "event_id": "evt_20260116_001",
    "user_id": "user_42",
    "device_id": "tv_lg_abc123",
    "content_id": "movie_987",
    "event_type": "PLAY",
    "timestamp": "2026-01-16T12:34:56Z",
    "region": "NL",
    "is_eu": True,
    "has_consent": True,
    "ip_address": "203.0.113.10",
    "subscription_plan": "premium",
    "error_code": None,
    "extra_metadata": {"app_version": "1.2.3", "network_type": "wifi"},
}
_JSON_TYPES: Final = {"string": "string", "long": "integer", "int": "integer", "double": "number", "boolean": "boolean", "null": "null"}
_EVENT: Final = {"$ref": "#/components/schemas/RawEvent"}
_ACCEPTED_HEADERS: Final = {
    "RateLimit": "What is left of the client's rate limit.",
    "RateLimit-Policy": "The client's rate limit.",
    "X-Request-Id": "Names this request in the server's log.",
}
_PROBLEMS: Final = {
    400: "The body or a header cannot be read.",
    401: "No valid API key or token.",
    403: "The client may not do this, or not for these tenants.",
    408: "The body did not arrive in time.",
    409: "A request with this Idempotency-Key is being worked on.",
    413: "The body, a batch or an event is too large.",
    415: "The body is neither JSON nor Avro, or is compressed.",
    422: "An event is no raw event, or the Idempotency-Key belongs to another request. Nothing was taken.",
    429: "The client has sent too many events; Retry-After says when these fit.",
    503: "Kafka did not ack in time, or what must not be done without is away. Send the same events again.",
}


def _json_type(avro: Any) -> list[str]:
    if isinstance(avro, list):
        return [name for one in avro for name in _json_type(one)]
    return [_JSON_TYPES[avro["type"] if isinstance(avro, dict) else avro]]


def event_schema() -> dict[str, Any]:
    """JSON Schema of an event, from the Avro schema of the raw topic; metadata may be an object here."""
    avro: Any = self_contained(RAW.record)
    properties: dict[str, Any] = {}
    for field in avro["fields"]:
        kinds = _json_type(field["type"])
        if field["name"] == "extra_metadata":
            kinds.append("object")
        properties[field["name"]] = {"type": kinds[0] if len(kinds) == 1 else kinds, "description": field["doc"]}
    required = [field["name"] for field in avro["fields"] if "default" not in field]
    return {"type": "object", "description": avro["doc"], "properties": properties, "required": required, "examples": [EXAMPLE]}


def components() -> dict[str, Any]:
    """The document's components."""
    problem = {
        "type": "object",
        "description": "Problem details (RFC 9457).",
        "required": ["type", "title", "status", "detail", "instance"],
        "properties": {
            "type": {"type": "string", "format": "uri", "examples": ["urn:usher:problem:invalid-events"]},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string"},
            "instance": {"type": "string", "format": "uri", "description": "urn:uuid: and the X-Request-Id."},
            "errors": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["pointer", "code", "detail"],
                    "properties": {
                        "pointer": {"type": "string", "examples": ["#/events/3/user_id"]},
                        "code": {"type": "string"},
                        "detail": {"type": "string"},
                    },
                },
            },
        },
    }
    accepted = {
        "type": "object",
        "required": ["accepted", "event_ids"],
        "properties": {"accepted": {"type": "integer", "minimum": 1}, "event_ids": {"type": "array", "items": {"type": "string"}}},
    }
    return {
        "schemas": {"RawEvent": event_schema(), "Problem": problem, "Accepted": accepted},
        "securitySchemes": {
            "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            "bearer": {"type": "http", "scheme": "bearer", "description": "An API key, or a JWT where the server has a key for them."},
        },
    }


def events_operation(max_events: int) -> dict[str, Any]:
    """What the document says about `POST /v1/events`."""
    many = {"type": "array", "items": _EVENT, "minItems": 1, "maxItems": max_events}
    batch = {"type": "object", "required": ["events"], "properties": {"events": many}, "additionalProperties": False}
    second = EXAMPLE | {"event_id": "evt_20260116_002", "event_type": "PAUSE"}
    binary = {"type": "string", "format": "binary"}
    return {
        "security": [{"apiKey": []}, {"bearer": []}],
        "parameters": [
            {
                "name": "Idempotency-Key",
                "in": "header",
                "required": False,
                "schema": {"type": "string", "minLength": 1, "maxLength": 255},
                "description": "The same request under the same key has its effect once, for 24 hours.",
            },
            {"name": "traceparent", "in": "header", "required": False, "schema": {"type": "string"}, "description": "W3C Trace Context."},
        ],
        "requestBody": {
            "required": True,
            "content": {
                JSON: {
                    "schema": {"anyOf": [_EVENT, many, batch]},
                    "examples": {
                        "one": {"summary": "One event", "value": EXAMPLE},
                        "many": {"summary": "Several events", "value": [EXAMPLE, second]},
                        "batch": {"summary": "Several events as an object", "value": {"events": [EXAMPLE, second]}},
                    },
                },
                AVRO_WIRE: {"schema": binary | {"description": "One event: 0x00, a 4-byte schema id, the Avro body."}},
                AVRO_BINARY: {"schema": binary | {"description": "Bare Avro of ott.RawEvent, one event after another."}},
            },
        },
        "responses": {
            "202": {
                "description": "Kafka has acked every event.",
                "headers": {
                    name: {"schema": {"type": "string"}, "description": description} for name, description in _ACCEPTED_HEADERS.items()
                },
                "content": {
                    JSON: {
                        "schema": {"$ref": "#/components/schemas/Accepted"},
                        "example": {"accepted": 1, "event_ids": [EXAMPLE["event_id"]]},
                    }
                },
            }
        }
        | {
            str(status): {"description": description, "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}}
            for status, description in _PROBLEMS.items()
        },
    }
