"""Tools over HTTP: forced calls, streamed arguments, and what a tool gave back."""

from __future__ import annotations

import json
from collections.abc import Iterator

import httpx2
import pytest

from luhuo.serve.served import Served
from tests.serve_cases import GREEDY, HELLO, WEATHER, Running, running
from tests.small_chat import small_model, small_tokenizer


@pytest.fixture(scope="module")
def roomy() -> Iterator[Running]:
    """A model with room for the descriptions of tools."""
    with running(models=[Served.of("small", small_model(max_positions=2048))]) as found:
        yield found


CLOCK = {"type": "function", "function": {"name": "clock", "parameters": {"type": "object", "properties": {}}}}


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "weather"}}])
def test_a_forced_tool_call_has_arguments_that_conform_streamed_or_not(roomy: Running, choice):
    client = roomy.client()
    tools = [WEATHER] if choice == "required" else [CLOCK, WEATHER]
    ask = GREEDY | {"max_tokens": 150, "temperature": 1, "seed": 5, "tools": tools, "tool_choice": choice}
    whole = client.chat.completions.create(**ask, parallel_tool_calls=False).choices[0]
    assert whole.finish_reason == "tool_calls" and whole.message.tool_calls is not None
    call = whole.message.tool_calls[0]
    arguments = json.loads(call.function.arguments)
    assert call.function.name == "weather" and arguments["town"] in ("上海", "Oslo") and 1 <= arguments["days"] <= 9
    chunks = list(client.chat.completions.create(**ask, parallel_tool_calls=False, stream=True))
    parts = [part for chunk in chunks for part in chunk.choices[0].delta.tool_calls or []]
    assert parts[0].index == 0 and parts[0].id and parts[0].function and parts[0].function.name == "weather"
    streamed = "".join(part.function.arguments or "" for part in parts if part.function and part.index == 0)
    assert json.loads(streamed) == arguments and chunks[-1].choices[0].finish_reason == "tool_calls"


NOTE = {
    "type": "function",
    "function": {
        "name": "note",
        "parameters": {
            "type": "object",
            "properties": {"text": {"type": "string", "minLength": 20, "maxLength": 30}},
            "required": ["text"],
            "additionalProperties": False,
        },
    },
}


def test_arguments_are_streamed_as_they_are_written(roomy: Running):
    client = roomy.client()
    ask = GREEDY | {"max_tokens": 200, "temperature": 1, "seed": 3, "tools": [NOTE], "tool_choice": "required"}
    whole = client.chat.completions.create(**ask, parallel_tool_calls=False).choices[0].message.tool_calls
    chunks = client.chat.completions.create(**ask, parallel_tool_calls=False, stream=True)
    parts = [part for chunk in chunks for part in chunk.choices[0].delta.tool_calls or []]
    assert parts[0].id and parts[0].type == "function" and parts[0].function and parts[0].function.name == "note"
    assert all(not part.id and part.function and part.function.name is None for part in parts[1:])
    pieces = [part.function.arguments or "" for part in parts if part.function]
    assert len(pieces) > 15 and max(map(len, pieces)) < 15  # a token's text at a time, not all at the end
    assert whole is not None and "".join(pieces) == whole[0].function.arguments
    assert 20 <= len(json.loads("".join(pieces))["text"]) <= 30


def test_an_answer_cut_off_inside_of_arguments_says_so_and_keeps_them(roomy: Running):
    client = roomy.client()
    ask = GREEDY | {"max_tokens": 65, "temperature": 1, "seed": 3, "tools": [NOTE], "tool_choice": "required"}
    whole = client.chat.completions.create(**ask).choices[0]
    assert whole.finish_reason == "length" and whole.message.tool_calls is not None
    begun = whole.message.tool_calls[0].function
    assert begun.name == "note" and begun.arguments.startswith("{") and not begun.arguments.endswith("}")
    chunks = list(client.chat.completions.create(**ask, stream=True))
    parts = [part for chunk in chunks for part in chunk.choices[0].delta.tool_calls or []]
    assert "".join(part.function.arguments or "" for part in parts if part.function) == begun.arguments
    assert chunks[-1].choices[0].finish_reason == "length"


def test_the_clients_own_stream_helper_gathers_tool_calls(roomy: Running):
    client = roomy.client()
    tools = [WEATHER | {"function": WEATHER["function"] | {"strict": True}}]
    ask = GREEDY | {"max_tokens": 150, "temperature": 1, "seed": 5, "tools": tools, "tool_choice": "required"}
    with client.chat.completions.stream(**ask, parallel_tool_calls=False) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_completion().choices[0].message
    assert {"tool_calls.function.arguments.delta", "tool_calls.function.arguments.done"} <= kinds
    assert final.tool_calls
    assert final.tool_calls[0].function.parsed_arguments["town"] in ("上海", "Oslo")


def test_the_result_of_a_tool_goes_back_to_the_model(roomy: Running):
    client = roomy.client()
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"town": "Oslo"}'}}
    messages = [
        *HELLO,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "rain"},
    ]
    found = client.chat.completions.create(**GREEDY | {"messages": messages, "tools": [WEATHER], "max_tokens": 4})
    body = {"model": "small", "messages": messages, "tools": [WEATHER]}
    read = httpx2.post(f"{roomy.url}/tokenize", json=body).json()
    assert found.usage is not None and found.usage.prompt_tokens == read["count"]
    text = small_tokenizer().decode(read["tokens"])
    assert "weather" in text and "Oslo" in text and "rain" in text
    without = client.chat.completions.create(**GREEDY, tools=[WEATHER], tool_choice="none")
    again = client.chat.completions.create(**GREEDY)
    assert without.usage and again.usage and without.usage.prompt_tokens == again.usage.prompt_tokens
    assert without.choices[0].message.content == again.choices[0].message.content
