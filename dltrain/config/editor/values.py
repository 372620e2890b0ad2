"""JSON Schemas (draft-07) of the values that the annotations of a signature admit.

They admit what `dltrain.config.checking.annotations.fits` admits, with two exceptions. An
interpolation `${...}` may stand for any value. JSON does not tell 1.0 from 1, and predicates cannot
be written in a schema.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Iterable
from typing import Annotated, Any, Literal, Union

from annotated_types import Ge, Gt, Le, Lt, MaxLen, MinLen, MultipleOf

from dltrain.config.checking.annotations import flattened, wants_object
from dltrain.types import Names

JsonSchema = dict[str, Any]
INTERPOLATION = {"$ref": "#/definitions/interpolation"}
NODE = {"$ref": "#/definitions/node"}
ANYTHING: JsonSchema = {}
PLAIN: dict[Any, JsonSchema] = {
    type(None): {"type": "null"},
    float: {"type": "number"},
    int: {"type": "integer"},
    bool: {"type": "boolean"},
    str: {"type": "string"},
}
CONSTRAINTS: dict[type, Callable[[Any], JsonSchema]] = {
    Gt: lambda limit: {"exclusiveMinimum": limit.gt},
    Ge: lambda limit: {"minimum": limit.ge},
    Lt: lambda limit: {"exclusiveMaximum": limit.lt},
    Le: lambda limit: {"maximum": limit.le},
    MultipleOf: lambda limit: {"multipleOf": limit.multiple_of},
    MinLen: lambda limit: _lengths("min", limit.min_length),
    MaxLen: lambda limit: _lengths("max", limit.max_length),
}


def value_schema(annotation: Any) -> JsonSchema:
    """Return the schema of a value for an argument, or of an interpolation."""
    return interpolated(plain_schema(annotation))


def interpolated(schema: JsonSchema) -> JsonSchema:
    """Return a schema that also admits an interpolation."""
    if schema in (ANYTHING, PLAIN[str], INTERPOLATION):
        return schema
    if set(schema) == {"anyOf"}:
        return {"anyOf": [*schema["anyOf"], INTERPOLATION]}
    return {"anyOf": [schema, INTERPOLATION]}


def plain_schema(annotation: Any) -> JsonSchema:
    """Return the schema of a value, without interpolations in its place."""
    origin = typing.get_origin(annotation)
    if origin in BY_ORIGIN:
        return BY_ORIGIN[origin](annotation)
    if annotation in PLAIN:
        return PLAIN[annotation]
    if wants_object(annotation):
        return NODE
    return ANYTHING


def _annotated(annotation: Any) -> JsonSchema:
    base, *metadata = typing.get_args(annotation)
    schema = plain_schema(base)
    if schema != NODE:
        schema = schema | _limits(metadata)
    if any(isinstance(item, Names) for item in metadata):
        return {"anyOf": [schema, PLAIN[float], PLAIN[bool]]}
    return schema


def _limits(metadata: Iterable[Any]) -> JsonSchema:
    """Return the part of a schema that says what the metadata of an annotation says."""
    limits: JsonSchema = {}
    for item in flattened(metadata):
        if type(item) in CONSTRAINTS:
            limits |= CONSTRAINTS[type(item)](item)
    return limits


def _lengths(which: str, number: int) -> JsonSchema:
    return {f"{which}{what}": number for what in ("Length", "Items", "Properties")}


def _literal(annotation: Any) -> JsonSchema:
    return {"enum": list(typing.get_args(annotation))}


def _union(annotation: Any) -> JsonSchema:
    choices = [plain_schema(part) for part in typing.get_args(annotation)]
    if ANYTHING in choices:
        return ANYTHING
    return {"anyOf": choices}


def _list(annotation: Any) -> JsonSchema:
    return {"type": "array", "items": value_schema(typing.get_args(annotation)[0])}


def _tuple(annotation: Any) -> JsonSchema:
    parts = typing.get_args(annotation)
    if len(parts) == 2 and parts[1] is Ellipsis:
        return _list(annotation)
    items = [value_schema(part) for part in parts]
    number = len(items)
    return {"type": "array", "items": items, "minItems": number, "maxItems": number}


def _mapping(annotation: Any) -> JsonSchema:
    return {
        "type": "object",
        "additionalProperties": value_schema(typing.get_args(annotation)[1]),
    }


def _object(annotation: Any) -> JsonSchema:
    return NODE


BY_ORIGIN: dict[Any, Callable[[Any], JsonSchema]] = {
    Annotated: _annotated,
    Literal: _literal,
    Union: _union,
    types.UnionType: _union,
    list: _list,
    tuple: _tuple,
    dict: _mapping,
    typing.get_origin(Callable[[], Any]): _object,
}
