"""Tools are offered through the model's own template, and a call can be forced."""

from __future__ import annotations

import json

import pytest
import tokenizers
import torch

from luhuo.core.errors import LuhuoError
from luhuo.dialogue.conversation import Conversation
from luhuo.inference import sampler
from luhuo.inference.answers import AnswerReader, shows_special
from luhuo.inference.call_writer import ToolCall, joined
from luhuo.inference.constraints import compile_format
from luhuo.inference.request import Request
from luhuo.inference.sampling import Sampling
from luhuo.inference.tool_choice import chat_prompt, forced
from luhuo.tokenizer.tokenizer import Tokenizer
from tests.small_chat import small_tokenizer, with_template
from tests.tool_cases import TOOLS, WRITTEN


def test_tools_go_through_the_models_own_template():
    tokenizer = small_tokenizer()
    conversation = Conversation.of([{"role": "user", "content": "北京天气？"}])
    prompt = tokenizer.decode(chat_prompt(conversation, tokenizer, TOOLS))
    assert '"weather"' in prompt and prompt.endswith("<|im_start|>assistant\n")


def test_earlier_calls_and_their_results_are_part_of_the_prompt():
    messages = [
        {"role": "user", "content": "北京天气？"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "北京"}'}}
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "晴"},
    ]
    conversation = Conversation.of(messages)
    plain = with_template("{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}[assistant]")
    for tokenizer in (small_tokenizer(), plain):
        prompt = tokenizer.decode(chat_prompt(conversation, tokenizer, TOOLS))
        assert "<tool_call>" in prompt and '"city": "北京"' in prompt and "晴" in prompt and "weather" in prompt


@pytest.mark.parametrize(
    "wrong", [[{}], [{"type": "function", "function": {"name": ""}}], [TOOLS[0], TOOLS[0]], ["x"]]
)
def test_what_is_no_tool_is_refused(wrong: list):
    with pytest.raises(LuhuoError):
        forced(wrong, small_tokenizer())
    with pytest.raises(LuhuoError, match="no tool of this name"):
        forced(TOOLS, small_tokenizer(), name="fly")


TEMPLATES = {
    "hermes": "{{ tools }}<tool_call>",
    "qwen-coder": "{{ tools }}<tool_call><function=",
    "glm": "{{ tools }}<tool_call><arg_key>",
    "mistral": "{{ tools }}[TOOL_CALLS]",
    "deepseek": "{{ tools }}<｜tool▁call▁begin｜>",
    "llama": "{{ tools }}<|python_tag|>",
    "json": "{{ tools }}",
}


def write(tokenizer, format, seed: int) -> tuple[AnswerReader, list[ToolCall], str | None]:
    """An answer under a constraint at random logits, read while it streams."""
    sampling = Sampling(seed=seed, max_tokens=400, temperature=1.5)
    request = Request([1], sampling, tokenizer, 1000, constraint=compile_format(format, tokenizer))
    reader, parts = AnswerReader(tokenizer, [1], TOOLS), []
    generator = torch.Generator().manual_seed(seed)
    bias = torch.zeros(tokenizer.vocab_size)
    bias[list(tokenizer.stop_ids)] = 5
    bias[tokenizer.encode('"}</')] = 3
    while request.finish_reason is None:
        logits = torch.randn(1, tokenizer.vocab_size, generator=generator) * 2 + bias
        [token] = sampler.next_tokens([request], logits, tokenizer.stop_ids)
        request.push(token, tokenizer.stop_ids)
        parts += reader.push(request.take_text()).tool_calls
    parts += reader.flush().tool_calls
    return reader, joined(parts), request.finish_reason


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_forced_call_is_one_that_the_parser_reads_and_the_schema_accepts(name: str):
    pytest.importorskip("llguidance", reason="the extra luhuo[constrained] is not installed")
    jsonschema = pytest.importorskip("jsonschema")
    tokenizer = with_template(TEMPLATES[name])
    finished = 0
    for seed in range(6):
        wanted = (None, "weather", "now")[seed % 3]
        reader, calls, reason = write(tokenizer, forced(TOOLS, tokenizer, name=wanted), seed)
        if reason != "stop":
            continue
        finished += 1
        assert calls and not reader.problems
        for call in calls:
            schema = next(t["function"]["parameters"] for t in TOOLS if t["function"]["name"] == call.name)
            jsonschema.validate(json.loads(call.arguments), schema)
            assert wanted in (None, call.name)
    assert finished


@pytest.mark.parametrize("name", ["hermes", "qwen-coder", "glm", "mistral"])
def test_what_models_write_is_what_the_forced_format_lets_through(name: str):
    pytest.importorskip("llguidance", reason="the extra luhuo[constrained] is not installed")
    tokenizer = with_template(TEMPLATES[name])
    constraint = compile_format(forced(TOOLS, tokenizer), tokenizer)
    text = (
        WRITTEN[name]
        .removeprefix("我查一下。")
        .lstrip()
        .replace("] [", "][")
        .replace("><tool_call>", ">\n<tool_call>")
    )
    for token in tokenizer.encode(text):
        assert constraint.allowed(tokenizer.vocab_size, {3})[token], tokenizer.decode([token])
        constraint.accept(token)
    assert constraint.complete


def with_special_marks() -> Tokenizer:
    """A tokenizer in which the marks of calls and reasoning are special tokens, as Mistral's are."""
    base = small_tokenizer()
    core = tokenizers.Tokenizer.from_str(base._core.to_str())
    core.add_special_tokens(["[TOOL_CALLS]", "[THINK]", "[/THINK]"])
    return Tokenizer(core, base._config, "{{ tools }}[TOOL_CALLS]")


def test_marks_that_are_special_tokens_have_to_be_shown_and_are_then_found():
    pytest.importorskip("llguidance", reason="the extra luhuo[constrained] is not installed")
    assert not shows_special(small_tokenizer(), tools=True)
    tokenizer = with_special_marks()
    assert shows_special(tokenizer, tools=True) and shows_special(tokenizer, tools=False)
    constraint = compile_format(forced(TOOLS, tokenizer, name="now"), tokenizer)
    request = Request([1], Sampling(show_special=True), tokenizer, 100, constraint=constraint)
    ids = tokenizer.encode('[TOOL_CALLS][{"name": "now", "arguments": {}}]', special=True)
    assert ids[0] in tokenizer.special_ids
    for token in ids:
        assert constraint.allowed(tokenizer.vocab_size, {3})[token]
        request.push(token, {3})
    reader = AnswerReader(tokenizer, [1], TOOLS)
    calls = joined(reader.push(request.take_text()).tool_calls + reader.flush().tool_calls)
    assert [(call.name, call.arguments, len(call.id)) for call in calls] == [("now", "{}", 9)]


def test_an_unknown_part_of_a_tools_schema_is_refused_when_its_call_is_forced():
    pytest.importorskip("llguidance", reason="the extra luhuo[constrained] is not installed")
    tool = {"name": "f", "parameters": {"type": "object", "properties": {"x": {"not": {"type": "null"}}}}}
    with pytest.raises(LuhuoError, match="output format"):
        compile_format(forced([tool], small_tokenizer()), small_tokenizer())
