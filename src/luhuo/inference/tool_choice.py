"""Offering tools to a model through its own template, and making it call one (`tool_choice`)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.dialogue.conversation import Conversation, Message
from luhuo.dialogue.render import render
from luhuo.inference.call_writer import function_of
from luhuo.inference.constraints import JSON_OPTIONS, quoted
from luhuo.inference.sampling import OutputFormat
from luhuo.inference.tool_formats import HERMES, PLAIN, ToolFormat, format_of
from luhuo.tokenizer.tokenizer import Tokenizer

Tools = Sequence[Mapping[str, Any]]

OFFER = "You can call these tools, one JSON schema a line:"
HOW = 'To call one, answer only with:\n<tool_call>\n{"name": "…", "arguments": {…}}\n</tool_call>'
"""English for every model and user: what a model is asked must not depend on the language of the interface."""


def check_tools(tools: Tools) -> None:
    """Raise `LuhuoError` unless each is OpenAI's {"type": "function", "function": {"name", …}}, each name once."""
    seen = set()
    for number, tool in enumerate(tools, 1):
        function = function_of(tool) if isinstance(tool, Mapping) else {}
        name, parameters = function.get("name"), function.get("parameters", {})
        known = isinstance(name, str) and name and name not in seen
        if not known or not isinstance(parameters, Mapping):
            raise LuhuoError(
                tr("This is no tool, or another has its name.", "这不是工具，或与另一个工具重名。"),
                expected='{"type": "function", "function": {"name": "…", "parameters": {…}}}',
                found=str(tool)[:120],
                where=tr(f"tool {number}", f"第 {number} 个工具"),
            )
        seen.add(name)


def chat_prompt(
    conversation: Conversation, tokenizer: Tokenizer, tools: Tools = (), variables: Mapping[str, Any] | None = None
) -> list[int]:
    """Token ids of a conversation to be answered, with the tools written as the model's template writes them.

    A template that knows of no tools gets them in the system prompt, with the way to call them, and earlier calls as
    text. `variables` go to the template too (`enable_thinking`, …).
    """
    check_tools(tools)
    given = dict(variables or {})
    if tools and "tools" in (tokenizer.chat_template or ""):
        given["tools"] = [dict(tool) for tool in tools]
    elif tools or any(message.tool_calls for message in conversation.messages):
        conversation = _spelled_out(conversation, tools)
    return render(conversation, tokenizer, generation_prompt=True, variables=given).ids


def tool_format(tokenizer: Tokenizer) -> ToolFormat:
    """How this model writes calls: as its template shows, or as `chat_prompt` asks where it shows nothing."""
    return format_of(tokenizer) if "tools" in (tokenizer.chat_template or "") else HERMES


def forced(tools: Tools, tokenizer: Tokenizer, *, name: str | None = None, parallel: bool = True) -> OutputFormat:
    """The output format of `tool_choice` "required", or of the tool `name`: nothing but calls whose arguments conform.

    Raises `LuhuoError` when there is no tool of this name.
    """
    check_tools(tools)
    functions = [function_of(tool) for tool in tools]
    chosen = [f for f in functions if name is None or f["name"] == name]
    if not chosen:
        raise LuhuoError(
            tr("There is no tool of this name.", "没有这个名字的工具。"),
            expected=", ".join(f["name"] for f in functions) or tr("tools", "工具"),
            found=name,
        )
    return OutputFormat(grammar=_grammar(chosen, tokenizer, tool_format(tokenizer), parallel and name is None))


def _grammar(functions: Sequence[Mapping[str, Any]], tokenizer: Tokenizer, format: ToolFormat, several: bool) -> str:
    """A Lark grammar of one or more calls in the model's own format."""
    before, between, after, write = _layout(format, tokenizer)
    repeated = f" ({between} call)*" if several and between is not None else ""
    rules = [f"start: {before} call{repeated} {after}", "call: " + " | ".join(f"f{i}" for i in range(len(functions)))]
    rules += [f"f{i}: {write(function)}" for i, function in enumerate(functions)]
    if format.name in ("glm", "qwen-coder"):
        rules += [r"parameter[lazy]: /(.|\n)*<\/parameter>/", r"value[lazy]: /(.|\n)*<\/arg_value>/"]
    return "\n".join(rules)


def _layout(format: ToolFormat, tokenizer: Tokenizer) -> tuple[str, str | None, str, Any]:
    """What stands before the calls, between two of them (None: only one is possible), behind them, and one call."""

    def mark(text: str) -> str:
        special = {tokenizer.added_tokens.get(i): i for i in tokenizer.special_ids}
        return f"<[{special[text]}]>" if text in special else quoted(text)

    if format.name == "mistral":
        return f'{mark("[TOOL_CALLS]")} "["', '", "', '"]"', lambda f: _json_call(f, "arguments")
    if format.name == "deepseek":
        open_all, close_all = mark("<｜tool▁calls▁begin｜>"), mark("<｜tool▁calls▁end｜>")
        opening, middle, closing = (mark(f"<｜tool▁{part}｜>") for part in ("call▁begin", "sep", "call▁end"))
        fenced = "```json" in (tokenizer.chat_template or "")

        def call(function: Mapping[str, Any]) -> str:
            name, schema = function["name"], _schema(function)
            if fenced:
                head = f'{opening} "function" {middle} {quoted(name + chr(10) + "```json" + chr(10))}'
                return f'{head} {schema} "\\n```" {closing}'
            return f"{opening} {quoted(name)} {middle} {schema} {closing}"

        return open_all, '"\\n"?', close_all, call
    if format.name == "qwen-coder":
        return "", '"\\n"', "", _function_call
    if format.name == "glm":
        return "", '"\\n"', "", _argument_call
    if format.name == "hermes":
        return "", '"\\n"', "", lambda f: f'"<tool_call>" "\\n"? {_json_call(f, "arguments")} "\\n"? "</tool_call>"'
    key = "arguments" if format is PLAIN else "parameters"
    return "", '"; "', "", lambda f: _json_call(f, key)


def _json_call(function: Mapping[str, Any], key: str) -> str:
    head = f'{{"name": {json.dumps(function["name"], ensure_ascii=False)}, "{key}": '
    return f'{quoted(head)} {_schema(function)} "}}"'


def _function_call(function: Mapping[str, Any]) -> str:
    parts = [quoted(f"<tool_call>\n<function={function['name']}>\n")]
    for key, schema, needed in _parameters(function):
        value = "parameter" if _is_text(schema) else f'{_json(schema)} "\\n</parameter>"'
        parts.append(f'({quoted(f"<parameter={key}>" + chr(10))} {value} "\\n"){"" if needed else "?"}')
    return " ".join([*parts, '"</function>\\n</tool_call>"'])


def _argument_call(function: Mapping[str, Any]) -> str:
    parts = [quoted(f"<tool_call>{function['name']}\n")]
    for key, schema, needed in _parameters(function):
        value = "value" if _is_text(schema) else f'{_json(schema)} "</arg_value>"'
        head = quoted(f"<arg_key>{key}</arg_key>\n<arg_value>")
        parts.append(f'({head} {value} "\\n"){"" if needed else "?"}')
    return " ".join([*parts, '"</tool_call>"'])


def _parameters(function: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any], bool]]:
    parameters = function.get("parameters") or {}
    needed = parameters.get("required") or []
    return [(key, schema, key in needed) for key, schema in (parameters.get("properties") or {}).items()]


def _is_text(schema: Any) -> bool:
    return not isinstance(schema, Mapping) or schema.get("type", "string") == "string"


def _schema(function: Mapping[str, Any]) -> str:
    return _json({"type": "object", **(function.get("parameters") or {})})


def _json(schema: Mapping[str, Any]) -> str:
    return "%json " + json.dumps({**schema, "x-guidance": JSON_OPTIONS}, ensure_ascii=False)


def _spelled_out(conversation: Conversation, tools: Tools) -> Conversation:
    """The conversation for a template without tools: they stand in the system prompt, calls and results are text."""
    messages = [_as_text(message) for message in conversation.messages]
    if tools:
        lines = [json.dumps(tool, ensure_ascii=False) for tool in tools]
        told = "\n".join([OFFER, *lines, HOW])
        if messages[0].role == "system":
            messages[0] = Message("system", f"{messages[0].content}\n\n{told}")
        else:
            messages.insert(0, Message("system", told))
    merged: list[Message] = []
    for message in messages:
        if merged and merged[-1].role == message.role == "user":
            merged[-1] = Message("user", f"{merged[-1].content}\n{message.content}")
        else:
            merged.append(message)
    return Conversation(tuple(merged), conversation.meta)


def _as_text(message: Message) -> Message:
    if message.role == "tool":
        return Message("user", f"<tool_response>\n{message.content}\n</tool_response>")
    if not message.tool_calls:
        return message
    calls = [
        f'<tool_call>\n{{"name": {json.dumps(call["function"]["name"], ensure_ascii=False)}, '
        f'"arguments": {call["function"]["arguments"]}}}\n</tool_call>'
        for call in message.tool_calls
    ]
    return Message("assistant", "\n".join(filter(None, [message.content, *calls])), message.train)
