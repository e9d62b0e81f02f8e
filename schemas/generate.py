"""Writes `records.py` from the `.avsc` files, so that a schema is written down once.

Run `usher schemas generate` after a change; a test fails while the two differ.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from schemas.store import load_all

HEADER = '''"""Typed records of every topic. Generated from `schemas/avro/*.avsc` by `usher schemas generate`: do not edit.

Times are integers: milliseconds since the Unix epoch, UTC. Optional fields are `None` when absent.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

'''

PRIMITIVES = {
    "string": "str",
    "long": "int",
    "int": "int",
    "boolean": "bool",
    "double": "float",
    "float": "float",
    "bytes": "bytes",
    "null": "None",
}


def _short(name: str) -> str:
    return name.rpartition(".")[2]


def _annotation(kind: Any) -> str:
    if isinstance(kind, str):
        return PRIMITIVES.get(kind) or _short(kind)
    if isinstance(kind, Sequence):
        return " | ".join(sorted((_annotation(one) for one in kind), key=lambda text: text == "None"))
    if kind["type"] == "array":
        return f"tuple[{_annotation(kind['items'])}, ...]"
    if kind["type"] == "map":
        return f"dict[str, {_annotation(kind['values'])}]"
    return _annotation(kind["name"] if "name" in kind else kind["type"])


def _default(field: Mapping[str, Any]) -> str:
    if "default" not in field:
        return ""
    value = field["default"]
    if value == []:
        return " = ()"
    if value == {}:
        return " = {}"
    return f' = "{value}"' if isinstance(value, str) else f" = {value!r}"


def _enum(name: str, schema: Mapping[str, Any]) -> str:
    symbols = ", ".join(repr(symbol) for symbol in schema["symbols"])
    symbols = symbols.replace("'", '"')
    constant = "".join("_" + c if c.isupper() and i else c for i, c in enumerate(name)).upper()
    constant = constant[:-1] + "IES" if constant.endswith("Y") else constant + "S"
    return f'{name} = Literal[{symbols}]\n"""{schema["doc"]}"""\n\n{constant}: Final[tuple[{name}, ...]] = ({symbols})\n'


def _record(name: str, schema: Mapping[str, Any]) -> str:
    fields = schema["fields"]
    lines = [f"class {name}(msgspec.Struct, frozen=True, kw_only=True):", f'    """{schema["doc"]}', "", "    Fields:"]
    lines += [f"        {field['name']}: {field['doc']}" for field in fields]
    lines += ['    """', ""]
    lines += [f"    {field['name']}: {_annotation(field['type'])}{_default(field)}" for field in fields]
    return "\n".join(lines) + "\n"


def render() -> str:
    """The text of `records.py` for the schemas as they stand."""
    schemas = {_short(full): schema for full, schema in load_all().items()}
    enums = [_enum(name, schema) for name, schema in schemas.items() if schema["type"] == "enum"]
    records = [_record(name, schema) for name, schema in schemas.items() if schema["type"] == "record"]
    names = ", ".join(f'"ott.{name}": {name}' for name, schema in schemas.items() if schema["type"] == "record")
    table = f'\nRECORDS: Final[dict[str, type[msgspec.Struct]]] = {{{names}}}\n"""Every record by the full name of its schema."""\n'
    return HEADER + "\n".join(enums) + "\n\n" + "\n\n".join(records) + "\n" + table
