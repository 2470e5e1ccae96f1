"""Constrained output: whatever the model would say, the text conforms; what cannot be enforced is refused."""

from __future__ import annotations

import json
import random
import re
from functools import cache
from pathlib import Path

import jsonschema
import pytest
import tokenizers
import torch
from tokenizers import decoders, models, normalizers, trainers

from luhuo.core.errors import LuhuoError
from luhuo.inference import sampler
from luhuo.inference.constraints import compile_format
from luhuo.inference.request import Request
from luhuo.inference.sampling import OutputFormat, Sampling
from luhuo.tokenizer.tokenizer import Tokenizer
from tests.small_chat import TEXTS, small_model, small_tokenizer

pytest.importorskip("llguidance", reason="the extra luhuo[constrained] is not installed")

END = small_tokenizer().end_of_turn_id
SCHEMAS = {
    "object": {
        "type": "object",
        "properties": {
            "姓名": {"type": "string", "maxLength": 6},
            "age": {"type": "integer", "minimum": 0, "maximum": 150},
        },
        "required": ["姓名", "age"],
        "additionalProperties": False,
    },
    "enum": {"enum": ["红", "蓝", 3, None, {"a": [1]}]},
    "nested arrays": {
        "type": "array",
        "items": {"type": "array", "items": {"type": "number", "minimum": -1.5, "maximum": 2}, "maxItems": 2},
        "minItems": 1,
        "maxItems": 3,
    },
    "choice of types": {
        "anyOf": [
            {"type": "boolean"},
            {"type": "object", "properties": {"x": {"const": "值"}}, "required": ["x"], "additionalProperties": False},
        ]
    },
    "references": {
        "$defs": {
            "node": {
                "type": "object",
                "properties": {
                    "v": {"type": "boolean"},
                    "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
                },
                "required": ["v", "next"],
                "additionalProperties": False,
            }
        },
        "$ref": "#/$defs/node",
    },
    "pattern": {"type": "string", "pattern": "^[一二三]{2,4}-[0-9]+$", "maxLength": 12},
    "date": {"type": "string", "format": "date"},
}


@cache
def sentencepiece_like() -> Tokenizer:
    """A BPE that writes blanks as ▁, puts one before the text, and falls back to bytes."""
    core = tokenizers.Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    core.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])  # type: ignore[assignment]
    core.decoder = decoders.Sequence(  # type: ignore[assignment]
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    special = ["<unk>", "<s>", "</s>", *[f"<0x{i:02X}>" for i in range(256)]]
    trainer = trainers.BpeTrainer(vocab_size=330, special_tokens=special, show_progress=False)
    core.train_from_iterator([*TEXTS * 5, '{"a": 12, "b": [true, null]}'], trainer)
    content = json.loads(core.to_str())
    content["added_tokens"] = [t for t in content["added_tokens"] if t["content"] in ("<unk>", "<s>", "</s>")]
    config = {"eos_token": "</s>", "bos_token": "<s>", "unk_token": "<unk>"}
    return Tokenizer(tokenizers.Tokenizer.from_str(json.dumps(content)), config, None)


def write(format: OutputFormat, seed: int, tokenizer: Tokenizer | None = None, **settings) -> Request:
    """An answer of a model that knows nothing: random logits, at which only the constraint makes sense."""
    tokenizer = tokenizer or small_tokenizer()
    sampling = Sampling(seed=seed, **{"max_tokens": 300, "temperature": 2.0} | settings)
    request = Request([1], sampling, tokenizer, 1000, constraint=compile_format(format, tokenizer))
    generator = torch.Generator().manual_seed(seed)
    ends = tokenizer.stop_ids
    while request.finish_reason is None:
        logits = torch.randn(1, tokenizer.vocab_size + 9, generator=generator) * 3
        logits[0, list(ends)] += 4  # models do end
        [token] = sampler.next_tokens([request], logits, ends)
        request.push(token, ends)
    return request


@pytest.mark.parametrize("name", SCHEMAS)
@pytest.mark.parametrize("make", [small_tokenizer, sentencepiece_like], ids=["byte-level", "sentencepiece"])
def test_a_model_without_sense_writes_what_the_schema_accepts(name: str, make):
    done = 0
    for seed in range(6):
        out = write(OutputFormat(json_schema=SCHEMAS[name]), seed, make()).completion()
        if out.finish_reason == "stop":
            jsonschema.validate(json.loads(out.text), SCHEMAS[name])
            done += 1
    assert done >= 3


def test_a_chinese_string_may_be_spread_over_tokens_and_stays_whole():
    tokenizer = small_tokenizer()
    constraint = compile_format(OutputFormat(json_schema={"enum": ["龘龘", "靐"]}), tokenizer)
    ids = tokenizer.encode('"龘龘"')
    assert len(ids) > 5
    for token in ids:
        assert constraint.allowed(tokenizer.vocab_size, {END})[token]
        constraint.accept(token)
    assert constraint.complete and constraint.finished


def test_json_mode_gives_an_object():
    found = [write(OutputFormat(json_object=True), seed).completion() for seed in range(8)]
    whole = [json.loads(out.text) for out in found if out.finish_reason == "stop"]
    assert whole and all(isinstance(value, dict) for value in whole)


@pytest.mark.parametrize("pattern", ["[a-c]{2,5}[0-9]", "(你好|世界){1,3}", r"^[0-9一-三]{1,3}@x\.(com|cn)$"])
def test_a_regular_expression_matches_the_whole_text(pattern: str):
    """Digits are spelled out: which characters of the world are digits depends on the edition of Unicode."""
    for seed in range(5):
        out = write(OutputFormat(regex=pattern), seed).completion()
        assert out.finish_reason == "stop" and re.fullmatch(pattern, out.text)


@pytest.mark.parametrize("make", [small_tokenizer, sentencepiece_like], ids=["byte-level", "sentencepiece"])
def test_one_of_several_texts_is_given_as_it_stands(make):
    choices = ("yes", 'no "way"', "也许\n吧", "yes, sir")
    seen = {write(OutputFormat(choices=choices), seed, make()).completion().text for seed in range(24)}
    assert seen <= set(choices) and len(seen) >= 3


@pytest.mark.parametrize(
    "grammar",
    [
        'start: item ("," item)*\nitem: /[0-9]{1,2}/ | "(" start ")"',
        'root ::= item ("," item)*\nitem ::= [0-9] | "(" root ")"',
    ],
)
def test_a_grammar_in_lark_or_ebnf_is_followed(grammar: str):
    for seed in range(5):
        out = write(OutputFormat(grammar=grammar), seed)
        if out.finish_reason == "stop":
            text = out.completion().text
            assert text.count("(") == text.count(")") and re.fullmatch(r"[\d,()]+", text)


def test_an_answer_cut_off_says_so_and_is_the_beginning_of_one():
    out = write(OutputFormat(regex="[a-z]{200}"), 0, max_tokens=5).completion()
    assert out.finish_reason == "length" and re.fullmatch("[a-z]+", out.text)


def test_a_stop_string_ends_a_constrained_answer_too():
    out = write(OutputFormat(regex="a{3}b{50}"), 0, stop=("ab",)).completion()
    assert (out.text, out.finish_reason, out.stop_reason) == ("aa", "stop", "ab")


def test_ends_are_forbidden_until_the_text_conforms_whatever_the_model_wants():
    constraint = compile_format(OutputFormat(choices=("ab", "abc")), small_tokenizer())
    vocab = small_tokenizer().vocab_size
    may_end = []
    for token in small_tokenizer().encode("abc"):
        may_end.append(bool(constraint.allowed(vocab, {END})[END]))
        constraint.accept(token)
    assert not may_end[0] and constraint.finished


def test_the_format_is_stronger_than_bans_and_minimal_lengths():
    out = write(OutputFormat(choices=("ok",)), 0, min_tokens=40, bad_words=("ok", "o")).completion()
    assert out.text == "ok" and out.finish_reason == "stop"


def test_a_constraint_can_begin_behind_the_reasoning():
    tokenizer = small_tokenizer()
    constraint = compile_format(OutputFormat(choices=("x",)), tokenizer, after="</think>")
    for token in tokenizer.encode("free text </think>"):
        allowed = constraint.allowed(tokenizer.vocab_size, {END})
        assert allowed[token] and not allowed[END] and not constraint.finished
        constraint.accept(token)
    allowed = constraint.allowed(tokenizer.vocab_size, {END})
    assert [tokenizer.decode([i]) for i in allowed.nonzero()[:, 0].tolist()] == ["x"]


@pytest.mark.parametrize(
    ("format", "part"),
    [
        ({"json_schema": {"not": {"type": "string"}}}, "not"),
        ({"json_schema": {"not": {"type": "string"}, "x-guidance": {"lenient": True}}}, "not"),
        ({"json_schema": {"$ref": "#/missing"}}, "missing"),
        ({"json_schema": {"type": "string", "minLength": 3, "maxLength": 2}}, "minLength"),
        ({"json_schema": {"type": "strin"}}, "strin"),
        ({"regex": "(?=x)y"}, "look-around"),
        ({"regex": "[a"}, "regex"),
        ({"grammar": "start: missing"}, "missing"),
        ({"grammar": 'root ::= "a'}, ""),
        ({"grammar": 'start: start "a"'}, ""),
    ],
)
def test_what_cannot_be_enforced_is_one_clear_message(format: dict, part: str):
    with pytest.raises(LuhuoError) as caught:
        compile_format(OutputFormat(**format), small_tokenizer())
    assert part in str(caught.value.found) and "<state>" not in str(caught.value)
    assert caught.value.where == next(iter(format))


@pytest.mark.parametrize("wrong", [{}, {"regex": "a", "json_object": True}, {"json_schema": False}, {"shape": 1}])
def test_exactly_one_kind_of_format_is_given(wrong: dict):
    with pytest.raises(LuhuoError):
        OutputFormat.parse(wrong)


def test_a_tokenizer_without_fixed_bytes_is_refused():
    core = tokenizers.Tokenizer(models.WordPiece({"[UNK]": 0, "a": 1, "##b": 2}, unk_token="[UNK]"))
    core.decoder = decoders.WordPiece()  # type: ignore[assignment]
    with pytest.raises(LuhuoError) as caught:
        compile_format(OutputFormat(json_object=True), Tokenizer(core, {}, None))
    assert caught.value.found == "WordPiece"


def test_random_tokens_never_break_a_constraint():
    tokenizer, chance = small_tokenizer(), random.Random(0)
    for seed in range(30):
        constraint = compile_format(OutputFormat(json_schema=SCHEMAS["object"]), tokenizer)
        for _ in range(20):
            constraint.accept(chance.randrange(tokenizer.vocab_size))
            constraint.allowed(tokenizer.vocab_size, {END})
        assert constraint.error and constraint.finished, seed


@pytest.mark.parametrize("page", ["sampling.md", "sampling.zh.md"])
def test_the_examples_of_the_page_run(page: str):
    import luhuo
    from luhuo.inference.engine import Engine

    text = (Path(__file__).parents[1] / "docs" / page).read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    values = {"luhuo": luhuo, "engine": Engine(small_model(max_positions=1024))}
    for block in blocks[1:]:  # the first loads a published model
        exec(block, values)
    assert re.fullmatch("a*b?", values["out"].text)
    assert len(values["best"].choices) == 2 and len(blocks) == 4
