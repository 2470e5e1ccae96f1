"""How models write tool calls: one reader for each family of formats.

A reader stands behind its mark and returns the calls written there as (name, arguments). Formats were read off the
chat templates of the published models.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from luhuo.inference.cursor import Cursor, Malformed, Reading
from luhuo.tokenizer.tokenizer import Tokenizer

Calls = list[tuple[str, dict[str, Any]]]
Types = Mapping[str, Mapping[str, Any]]
"""For each tool the JSON Schema of each of its parameters."""
Reader = Callable[[Cursor, Types], Reading[Calls]]

MAX_NAME = 256
BUILT_IN = re.compile(r"\s*([\w.]+)\.call\((.*)\)\s*", re.DOTALL)


@dataclass(frozen=True)
class ToolFormat:
    """One way to write tool calls: what each mark opens, marks that say nothing, and whether a bare JSON value at
    the start of the answer is a call."""

    name: str
    readers: Mapping[str, Reader]
    ignored: tuple[str, ...] = ()
    bare: Reader | None = None
    short_ids: bool = False
    """Ids of nine letters and digits: Mistral's templates accept no other."""
    detect: tuple[str, ...] = field(default=())

    @property
    def marks(self) -> tuple[str, ...]:
        """All texts that the answer is searched for."""
        return (*self.readers, *self.ignored)


def format_of(tokenizer: Tokenizer) -> ToolFormat:
    """The format of a model, told from its chat template and vocabulary; plain JSON if neither says anything."""
    written = "\0".join([tokenizer.chat_template or "", *tokenizer.added_tokens.values()])
    for one in FORMATS:
        if any(sign in written for sign in one.detect):
            return one
    return PLAIN


def call_of(value: Any) -> tuple[str, dict[str, Any]]:
    """A call from its JSON: {"name", "arguments"}, or "parameters", or OpenAI's {"function": {…}}."""
    if isinstance(value, dict) and isinstance(value.get("function"), dict):
        value = value["function"]
    if not isinstance(value, dict) or not isinstance(value.get("name"), str) or not value["name"]:
        raise Malformed("no name of a tool")
    arguments = value.get("arguments", value.get("parameters", {}))
    if isinstance(arguments, str):  # JSON inside of JSON
        try:
            arguments = json.loads(arguments or "{}", strict=False)
        except (ValueError, RecursionError):
            raise Malformed("arguments that are not JSON") from None
    if arguments is None:
        arguments = {}
    if not isinstance(arguments, dict):
        raise Malformed("arguments that are no object")
    return value["name"], arguments


def read_tagged(cursor: Cursor, types: Types) -> Reading[Calls]:
    """`<tool_call>` … `</tool_call>`: JSON (Hermes, Qwen), `<function=…>` (Qwen-Coder) or `<arg_key>` (GLM)."""
    yield from cursor.skip_blanks()
    if cursor.rest[:1] in ("{", "["):
        value = yield from cursor.json_value()
        calls = [call_of(one) for one in (value if isinstance(value, list) else [value])]
    elif (yield from cursor.literal("<function=")):
        calls = [(yield from _read_function(cursor, types))]
    else:
        return [(yield from _read_arguments(cursor, types))]
    yield from cursor.skip_blanks()
    if not (yield from cursor.literal("</tool_call>")) and cursor.rest:
        raise Malformed("no </tool_call>")
    return calls


def _read_function(cursor: Cursor, types: Types) -> Reading[tuple[str, dict[str, Any]]]:
    """`name>`, then `<parameter=key>value</parameter>` each, then `</function>`."""
    name = _name((yield from cursor.until(">"))[0])
    arguments = {}
    while True:
        yield from cursor.skip_blanks()
        if (yield from cursor.literal("</function>")):
            return name, arguments
        if not (yield from cursor.literal("<parameter=")):
            raise Malformed("no <parameter=…>")
        key = (yield from cursor.until(">"))[0].strip()
        value = (yield from cursor.until("</parameter>"))[0]
        arguments[key] = _typed(value.removeprefix("\n").removesuffix("\n"), types.get(name, {}).get(key))


def _read_arguments(cursor: Cursor, types: Types) -> Reading[tuple[str, dict[str, Any]]]:
    """`name`, then `<arg_key>key</arg_key><arg_value>value</arg_value>` each, up to `</tool_call>`."""
    before, mark = yield from cursor.until("<arg_key>", "</tool_call>")
    name = _name(before)
    arguments = {}
    while mark == "<arg_key>":
        key = (yield from cursor.until("</arg_key>"))[0].strip()
        yield from cursor.skip_blanks()
        if not (yield from cursor.literal("<arg_value>")):
            raise Malformed("no <arg_value>")
        value = (yield from cursor.until("</arg_value>"))[0]
        arguments[key] = _typed(value, types.get(name, {}).get(key))
        between, mark = yield from cursor.until("<arg_key>", "</tool_call>")
        if between.strip():
            raise Malformed("text between arguments")
    return name, arguments


def read_mistral(cursor: Cursor, types: Types) -> Reading[Calls]:
    """`[TOOL_CALLS]`: an array of calls, or since 2025 `name[ARGS]{…}` (also without mark), one for each."""
    yield from cursor.skip_blanks()
    if cursor.rest[:1] == "[":
        value = yield from cursor.json_value()
        return [call_of(one) for one in value]
    before, mark = yield from cursor.until("[ARGS]", "{")
    if mark == "{":
        cursor.at -= 1
    arguments = yield from cursor.json_value()
    return [call_of({"name": _name(before.partition("[CALL_ID]")[0]), "arguments": arguments})]


def read_deepseek(cursor: Cursor, types: Types) -> Reading[Calls]:
    """`function<｜tool▁sep｜>name` and fenced JSON (V3, R1), or `name<｜tool▁sep｜>{…}` (V3.1)."""
    head = (yield from cursor.until("<｜tool▁sep｜>"))[0].strip()
    if head == "function":
        head = (yield from cursor.until("\n"))[0]
        yield from cursor.skip_blanks()
        if not (yield from cursor.literal("```json")):
            raise Malformed("no ```json")
    arguments = yield from cursor.json_value()
    yield from cursor.skip_blanks()
    yield from cursor.literal("```")
    yield from cursor.skip_blanks()
    if not (yield from cursor.literal("<｜tool▁call▁end｜>")) and cursor.rest:
        raise Malformed("no <｜tool▁call▁end｜>")
    return [call_of({"name": _name(head), "arguments": arguments})]


def read_python_tag(cursor: Cursor, types: Types) -> Reading[Calls]:
    """`<|python_tag|>`: JSON as without it, or `tool.call(key="value")` of Llama's built-in tools."""
    yield from cursor.skip_blanks()
    if cursor.rest[:1] in ("{", "["):
        return (yield from read_json(cursor, types))
    while not cursor.ended:
        yield
    found = BUILT_IN.fullmatch(cursor.rest)
    if found is None:
        raise Malformed("no call of a tool")
    try:
        call = ast.parse(f"f({found[2]})", mode="eval").body
        assert isinstance(call, ast.Call)
        arguments = {word.arg: ast.literal_eval(word.value) for word in call.keywords if word.arg}
        json.dumps(arguments)
    except (SyntaxError, ValueError, TypeError, AssertionError, RecursionError, MemoryError):
        raise Malformed("arguments that are no constants") from None
    if call.args:
        raise Malformed("an argument without a name")
    cursor.at = len(cursor.text)
    return [(found[1], arguments)]


def read_json(cursor: Cursor, types: Types) -> Reading[Calls]:
    """One call as JSON, several with `;` or `,` between, or an array of them."""
    calls: Calls = []
    while True:
        value = yield from cursor.json_value()
        calls += [call_of(one) for one in (value if isinstance(value, list) else [value])]
        end = cursor.at
        yield from cursor.skip_blanks()
        if cursor.rest[:1] in (";", ","):
            cursor.at += 1
            yield from cursor.skip_blanks()
        if cursor.rest[:1] not in ("{", "["):
            cursor.at = end if cursor.rest else cursor.at
            return calls


def _name(text: str) -> str:
    name = text.strip()
    if not name or len(name) > MAX_NAME or any(c.isspace() or c in "<>{}[]" for c in name):
        raise Malformed("no name of a tool")
    return name


def _typed(text: str, schema: Mapping[str, Any] | None) -> Any:
    """The value of a parameter that was written without quotes: a string if it may be one, else what JSON says."""
    kinds = schema.get("type") if schema else None
    if kinds is None or kinds == "string" or (isinstance(kinds, list) and "string" in kinds):
        return text
    try:
        return json.loads(text, strict=False)
    except (ValueError, RecursionError):
        return text


PLAIN = ToolFormat("json", {}, bare=read_json)
MISTRAL = ToolFormat("mistral", {"[TOOL_CALLS]": read_mistral}, short_ids=True, detect=("[TOOL_CALLS]",))
DEEPSEEK = ToolFormat(
    "deepseek",
    {"<｜tool▁call▁begin｜>": read_deepseek},
    ("<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"),
    detect=("<｜tool▁call▁begin｜>",),
)
GLM = ToolFormat("glm", {"<tool_call>": read_tagged}, detect=("<arg_key>",))
QWEN_CODER = ToolFormat("qwen-coder", {"<tool_call>": read_tagged}, detect=("<function=",))
HERMES = ToolFormat("hermes", {"<tool_call>": read_tagged}, detect=("<tool_call>",))
LLAMA = ToolFormat("llama", {"<|python_tag|>": read_python_tag}, bare=read_json, detect=("<|python_tag|>",))
FORMATS = (DEEPSEEK, MISTRAL, GLM, QWEN_CODER, HERMES, LLAMA, PLAIN)
