"""How models write tool calls: one reader for each family of formats.

A reader stands behind its mark and hands the calls written there to a `CallWriter` as they come: arguments as soon as
the name is known. Formats were read off the chat templates of the published models.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from luhuo.inference.call_writer import CallWriter
from luhuo.inference.cursor import Cursor, Malformed, Reading
from luhuo.inference.json_text import copy_value, escaped, next_key, read_value
from luhuo.inference.reasoning import begun
from luhuo.tokenizer.tokenizer import Tokenizer

Reader = Callable[[Cursor, CallWriter], Reading[None]]

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


def read_call(cursor: Cursor, calls: CallWriter, *, inner: bool = False) -> Reading[None]:
    """A call as JSON: {"name", "arguments"}, or "parameters", or OpenAI's {"function": {…}}.

    Arguments behind the name go out as they come; those before it, or that are JSON inside of a string, as a whole.
    """
    if not (yield from cursor.literal("{")):
        raise Malformed("no JSON object")
    name, arguments, given, first = None, None, False, True
    while (key := (yield from next_key(cursor, first=first))) is not None:
        first = False
        opens = (yield from cursor.peek()) == "{" and not given
        if key == "function" and opens and not inner:
            yield from read_call(cursor, calls, inner=True)
            given = True
        elif key in ("arguments", "parameters") and opens and isinstance(name, str) and name:
            calls.begin(name)
            yield from copy_value(cursor, calls.write)
            given = True
        else:
            value = yield from read_value(cursor)
            if key == "name":
                name = value
            elif key in ("arguments", "parameters"):
                arguments = value
    if given:
        calls.end()
        return
    if not isinstance(name, str) or not name:
        raise Malformed("no name of a tool")
    calls.whole(name, _object(arguments))


def read_calls(cursor: Cursor, calls: CallWriter) -> Reading[None]:
    """One call as JSON, or an array of them."""
    if not (yield from cursor.literal("[")):
        yield from read_call(cursor, calls)
        return
    while True:
        yield from cursor.skip_blanks()
        yield from read_call(cursor, calls)
        yield from cursor.skip_blanks()
        if (yield from cursor.literal("]")):
            return
        if not (yield from cursor.literal(",")):
            raise Malformed("no comma between calls")


def read_tagged(cursor: Cursor, calls: CallWriter) -> Reading[None]:
    """`<tool_call>` … `</tool_call>`: JSON (Hermes, Qwen), `<function=…>` (Qwen-Coder) or `<arg_key>` (GLM)."""
    yield from cursor.skip_blanks()
    if cursor.rest[:1] in ("{", "["):
        yield from read_calls(cursor, calls)
    elif (yield from cursor.literal("<function=")):
        yield from _read_function(cursor, calls)
    else:
        yield from _read_arguments(cursor, calls)
        return
    yield from cursor.skip_blanks()
    if not (yield from cursor.literal("</tool_call>")) and cursor.rest:
        raise Malformed("no </tool_call>")


def _read_function(cursor: Cursor, calls: CallWriter) -> Reading[None]:
    """`name>`, then `<parameter=key>value</parameter>` each, then `</function>`."""
    name, opening = _name((yield from cursor.until(">"))[0]), "{"
    while True:
        yield from cursor.skip_blanks()
        if (yield from cursor.literal("</function>")):
            _close(calls, name, opening)
            return
        if not (yield from cursor.literal("<parameter=")):
            raise Malformed("no <parameter=…>")
        key = (yield from cursor.until(">"))[0].strip()
        opening = _open(calls, name, key, opening)
        if _is_text(calls.types(name).get(key)):
            yield from _copy_text(cursor, "</parameter>", calls, framed=True)
        else:
            value = (yield from cursor.until("</parameter>"))[0]
            calls.write(_typed(value.removeprefix("\n").removesuffix("\n")))


def _read_arguments(cursor: Cursor, calls: CallWriter) -> Reading[None]:
    """`name`, then `<arg_key>key</arg_key><arg_value>value</arg_value>` each, up to `</tool_call>`."""
    before, mark = yield from cursor.until("<arg_key>", "</tool_call>")
    name, opening = _name(before), "{"
    while mark == "<arg_key>":
        key = (yield from cursor.until("</arg_key>"))[0].strip()
        yield from cursor.skip_blanks()
        if not (yield from cursor.literal("<arg_value>")):
            raise Malformed("no <arg_value>")
        opening = _open(calls, name, key, opening)
        if _is_text(calls.types(name).get(key)):
            yield from _copy_text(cursor, "</arg_value>", calls, framed=False)
        else:
            calls.write(_typed((yield from cursor.until("</arg_value>"))[0]))
        between, mark = yield from cursor.until("<arg_key>", "</tool_call>")
        if between.strip():
            raise Malformed("text between arguments")
    _close(calls, name, opening)


def _open(calls: CallWriter, name: str, key: str, opening: str) -> str:
    """Write what stands before a member's value; the first one begins the call. Gives what opens the next."""
    if opening == "{":
        calls.begin(name)
    calls.write(f'{opening}"{escaped(key)}": ')
    return ", "


def _close(calls: CallWriter, name: str, opening: str) -> None:
    if opening == "{":
        calls.whole(name, {})
    else:
        calls.write("}")


def _copy_text(cursor: Cursor, mark: str, calls: CallWriter, *, framed: bool) -> Reading[None]:
    """Write a value as a JSON string while it comes, up to `mark`; `framed`: line breaks around it are not its own."""
    calls.write('"')
    if framed:
        yield from cursor.literal("\n")
    while (place := cursor.text.find(mark, cursor.at)) < 0:
        end = len(cursor.text) - (0 if cursor.ended else begun(cursor.rest, mark))
        if framed and not cursor.ended and cursor.text[cursor.at : end].endswith("\n"):
            end -= 1
        _say(cursor, end, calls)
        if cursor.ended:
            raise Malformed(f"no {mark}")
        yield
    _say(cursor, place - (framed and cursor.text[cursor.at : place].endswith("\n")), calls)
    cursor.at = place + len(mark)
    calls.write('"')


def _say(cursor: Cursor, end: int, calls: CallWriter) -> None:
    text, cursor.at = cursor.text[cursor.at : end], end
    if text:
        calls.write(escaped(text))


def read_mistral(cursor: Cursor, calls: CallWriter) -> Reading[None]:
    """`[TOOL_CALLS]`: an array of calls, or since 2025 `name[ARGS]{…}` (also without mark), one for each."""
    yield from cursor.skip_blanks()
    if cursor.rest[:1] == "[":
        yield from read_calls(cursor, calls)
        return
    before, mark = yield from cursor.until("[ARGS]", "{")
    if mark == "{":
        cursor.at -= 1
    yield from _read_named(cursor, calls, before.partition("[CALL_ID]")[0])


def read_deepseek(cursor: Cursor, calls: CallWriter) -> Reading[None]:
    """`function<｜tool▁sep｜>name` and fenced JSON (V3, R1), or `name<｜tool▁sep｜>{…}` (V3.1)."""
    head = (yield from cursor.until("<｜tool▁sep｜>"))[0].strip()
    if head == "function":
        head = (yield from cursor.until("\n"))[0]
        yield from cursor.skip_blanks()
        if not (yield from cursor.literal("```json")):
            raise Malformed("no ```json")
    yield from _read_named(cursor, calls, head)
    yield from cursor.skip_blanks()
    yield from cursor.literal("```")
    yield from cursor.skip_blanks()
    if not (yield from cursor.literal("<｜tool▁call▁end｜>")) and cursor.rest:
        raise Malformed("no <｜tool▁call▁end｜>")


def _read_named(cursor: Cursor, calls: CallWriter, name: str) -> Reading[None]:
    """The arguments of a call whose name stood before them."""
    name = _name(name)
    yield from cursor.skip_blanks()
    if (yield from cursor.peek()) != "{":
        raise Malformed("no JSON object")
    calls.begin(name)
    yield from copy_value(cursor, calls.write)


def read_python_tag(cursor: Cursor, calls: CallWriter) -> Reading[None]:
    """`<|python_tag|>`: JSON as without it, or `tool.call(key="value")` of Llama's built-in tools."""
    yield from cursor.skip_blanks()
    if cursor.rest[:1] in ("{", "["):
        yield from read_json(cursor, calls)
        return
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
    calls.whole(found[1], arguments)


def read_json(cursor: Cursor, calls: CallWriter) -> Reading[None]:
    """One call as JSON, several with `;` or `,` between, or an array of them."""
    while True:
        yield from read_calls(cursor, calls)
        end = cursor.at
        yield from cursor.skip_blanks()
        if cursor.rest[:1] in (";", ","):
            cursor.at += 1
            yield from cursor.skip_blanks()
        if cursor.rest[:1] not in ("{", "["):
            cursor.at = end if cursor.rest else cursor.at
            return


def _name(text: str) -> str:
    name = text.strip()
    if not name or len(name) > MAX_NAME or any(c.isspace() or c in "<>{}[]" for c in name):
        raise Malformed("no name of a tool")
    return name


def _object(arguments: Any) -> dict[str, Any]:
    """The arguments of a call that is known as a whole; they may be JSON inside of a string, or missing."""
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments or "{}", strict=False)
        except (ValueError, RecursionError):
            raise Malformed("arguments that are not JSON") from None
    if arguments is None:
        return {}
    if not isinstance(arguments, dict):
        raise Malformed("arguments that are no object")
    return arguments


def _is_text(schema: Mapping[str, Any] | None) -> bool:
    """Whether a parameter may be a string."""
    kinds = schema.get("type") if schema else None
    return kinds is None or kinds == "string" or (isinstance(kinds, list) and "string" in kinds)


def _typed(text: str) -> str:
    """The JSON of a parameter that was written without quotes and is no string: as it is, or if it is no JSON, a
    string all the same."""
    try:
        return json.dumps(json.loads(text, strict=False), ensure_ascii=False, allow_nan=False)
    except (ValueError, RecursionError):
        return f'"{escaped(text)}"'


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
