"""Does a reply hold the JSON that a schema asks for."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from luhuo.core.errors import LuhuoError, missing_extra
from luhuo.core.language import tr
from luhuo.verify.answers import Match, split_reasoning
from luhuo.verify.extraction import json_value

_FENCED = re.compile(r"```[a-zA-Z]*\s*\n(.*?)\n?```", re.S)
_TRIES = 20
"""Places of a reply at which a JSON value is looked for, so that no reply takes long."""


def validator(schema: Mapping[str, Any]) -> Any:
    """A schema ready for use. References to other addresses are never followed.

    Raises `LuhuoError` where the schema itself is wrong, or the package `jsonschema` is not there.
    """
    try:
        from jsonschema import Draft202012Validator, SchemaError, validators
        from referencing import Registry
    except ImportError:
        raise missing_extra("jsonschema", "schema") from None
    kind = validators.validator_for(schema, default=Draft202012Validator)
    try:
        kind.check_schema(dict(schema))
    except SchemaError as error:
        raise LuhuoError(
            tr("This is no valid JSON schema.", "这不是有效的 JSON Schema。"),
            found=error.message,
            where="/".join(map(str, error.absolute_path)) or None,
        ) from None
    return kind(dict(schema), registry=Registry(), format_checker=kind.FORMAT_CHECKER)


def match_schema(text: str, schema: Any) -> Match:
    """Strictly: what is said is one JSON value, bare or in a code fence, that keeps the schema (a `validator`).
    Leniently: a value in a code fence, or an object or list anywhere in it, does."""
    said = split_reasoning(text)[1]
    value, parsed = json_value(said)
    strict = parsed and _keeps(value, schema)
    return Match(strict, strict or any(_keeps(found, schema) for found in values_in(said)), parsed)


def values_in(text: str) -> Iterator[Any]:
    """The JSON values of a text: those in code fences, then the objects and lists that stand anywhere."""
    for body in _FENCED.findall(text)[:_TRIES]:
        value, parsed = json_value(body)
        if parsed:
            yield value
    decoder, place = json.JSONDecoder(), 0
    for _ in range(_TRIES):
        start = re.compile(r"[{\[]").search(text, place)
        if start is None:
            return
        try:
            value, place = decoder.raw_decode(text, start.start())
            yield value
        except (ValueError, RecursionError):
            place = start.end()


def _keeps(value: Any, schema: Any) -> bool:
    try:
        return schema.is_valid(value)
    except RecursionError:  # nested too deeply for any honest answer
        return False
