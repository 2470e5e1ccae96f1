"""The server as the official `openai` client sees it: conformance, over a real socket."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from typing import Literal

import httpx2
import numpy
import openai
import pydantic
import pytest

from luhuo.inference.engine import Engine
from luhuo.inference.sampling import Sampling
from luhuo.serve.served import Served
from tests.serve_cases import GREEDY, HELLO, WEATHER, Running, running, small_encoder
from tests.small_chat import small_model, small_tokenizer, with_template


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running() as found:
        yield found


@pytest.fixture(scope="module")
def client(server: Running) -> openai.OpenAI:
    return server.client()


@pytest.fixture(scope="module")
def roomy() -> Iterator[Running]:
    """A model with room for the descriptions of tools."""
    with running(models=[Served.of("small", small_model(max_positions=2048))]) as found:
        yield found


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(small_model())


def test_models_are_listed_and_told_one_by_one(client: openai.OpenAI):
    assert [model.id for model in client.models.list()] == ["small", "vectors"]
    assert client.models.retrieve("small").id == "small"


def test_a_chat_answers_what_the_engine_answers(client: openai.OpenAI, engine: Engine):
    expected = engine.chat(HELLO, Sampling(temperature=0, max_tokens=12))
    found = client.chat.completions.create(**GREEDY)
    assert found.choices[0].message.content == expected.text
    assert found.choices[0].finish_reason == expected.finish_reason and found.choices[0].message.role == "assistant"
    assert found.usage is not None and found.usage.completion_tokens == len(expected.token_ids)
    assert found.usage.prompt_tokens == expected.prompt_tokens


def test_a_stream_adds_up_to_the_whole_answer_and_tells_its_usage(client: openai.OpenAI):
    whole = client.chat.completions.create(**GREEDY)
    chunks = list(client.chat.completions.create(**GREEDY, stream=True, stream_options={"include_usage": True}))
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == whole.choices[0].message.content
    assert chunks[0].choices[0].delta.role == "assistant" and chunks[-2].choices[0].finish_reason == "length"
    assert chunks[-1].usage == whole.usage and not chunks[-1].choices
    assert len({c.id for c in chunks}) == 1


def test_the_second_turn_of_a_conversation_computes_what_is_new_and_says_so(server: Running, client: openai.OpenAI):
    messages = [{"role": "user", "content": "How far is it from the harbour to the old town?"}]
    first = client.chat.completions.create(**GREEDY | {"messages": messages})
    answer = first.choices[0].message.content
    messages += [{"role": "assistant", "content": answer}, {"role": "user", "content": "and back?"}]  # type: ignore
    second = client.chat.completions.create(**GREEDY | {"messages": messages})
    engine = next(iter(server.house.models)).writer
    plain = Engine(engine.model, prefix_cache=False).chat(messages, Sampling(temperature=0, max_tokens=12))  # type: ignore
    assert second.choices[0].message.content == plain.text
    assert first.usage and first.usage.prompt_tokens_details
    assert (first.usage.prompt_tokens_details.cached_tokens or 0) < 16  # how other tests' conversations begin
    assert second.usage and second.usage.prompt_tokens_details
    known = second.usage.prompt_tokens_details.cached_tokens or 0
    assert known >= first.usage.prompt_tokens > 32
    response = client.responses.create(model="small", input=messages, max_output_tokens=1)  # type: ignore
    assert response.usage and response.usage.input_tokens_details.cached_tokens >= known
    assert "luhuo_cached_tokens_total" in httpx2.get(f"{server.url}/metrics").text


def test_without_the_option_a_stream_has_no_usage(client: openai.OpenAI):
    assert all(chunk.usage is None for chunk in client.chat.completions.create(**GREEDY, stream=True))


def test_equal_seeds_give_equal_answers_and_n_gives_several(client: openai.OpenAI):
    ask = GREEDY | {"temperature": 1, "seed": -7, "n": 3}
    first, second = (client.chat.completions.create(**ask) for _ in range(2))
    texts = [choice.message.content for choice in first.choices]
    assert texts == [choice.message.content for choice in second.choices]
    assert [choice.index for choice in first.choices] == [0, 1, 2] and len(set(texts)) == 3
    streamed = ["", "", ""]
    for chunk in client.chat.completions.create(**ask, stream=True):
        streamed[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
    assert streamed == texts


def test_a_stop_string_ends_the_answer_and_is_not_sent(client: openai.OpenAI):
    text = client.chat.completions.create(**GREEDY).choices[0].message.content or ""
    stop = text[4:6]
    found = client.chat.completions.create(**GREEDY, stop=[stop]).choices[0]
    assert found.message.content == text[: text.index(stop)] and found.finish_reason == "stop"
    parts = client.chat.completions.create(**GREEDY, stop=stop, stream=True)
    assert "".join(part.choices[0].delta.content or "" for part in parts) == found.message.content


def test_log_probabilities_are_those_of_the_engine(client: openai.OpenAI, engine: Engine):
    expected = engine.chat(HELLO, Sampling(temperature=0, max_tokens=12, logprobs=2))
    found = client.chat.completions.create(**GREEDY, logprobs=True, top_logprobs=2).choices[0].logprobs
    assert found is not None and found.content is not None and expected.logprobs is not None
    assert [one.logprob for one in found.content] == pytest.approx(expected.logprobs, abs=1e-4)
    assert [bytes(one.bytes or []) for one in found.content] == [
        small_tokenizer().token_bytes(token) for token in expected.token_ids
    ]
    assert all(len(one.top_logprobs) == 2 for one in found.content)
    streamed = client.chat.completions.create(**GREEDY, logprobs=True, top_logprobs=2, stream=True)
    parts = [c.choices[0].logprobs.content for c in streamed if c.choices[0].logprobs]
    assert [one.logprob for part in parts for one in part or []] == pytest.approx(expected.logprobs, abs=1e-4)


def test_a_logit_bias_bans_and_forces_tokens(client: openai.OpenAI):
    token = small_tokenizer().encode("x")[0]
    forced = client.chat.completions.create(**GREEDY, logit_bias={str(token): 100}).choices[0]
    assert forced.message.content == "x" * 12


SCHEMA = {
    "type": "object",
    "properties": {"town": {"type": "string", "maxLength": 4}, "size": {"enum": [1, 2]}},
    "required": ["town", "size"],
    "additionalProperties": False,
}


def test_a_json_schema_holds_for_every_answer_streamed_or_not(roomy: Running):
    client = roomy.client()
    wanted = {"type": "json_schema", "json_schema": {"name": "place", "schema": SCHEMA, "strict": True}}
    ask = GREEDY | {"max_tokens": 1000, "temperature": 1, "response_format": wanted}
    for seed in range(3):
        whole = client.chat.completions.create(**ask, seed=seed).choices[0]
        parts = client.chat.completions.create(**ask, seed=seed, stream=True)
        assert "".join(part.choices[0].delta.content or "" for part in parts) == whole.message.content
        found = json.loads(whole.message.content or "")
        assert set(found) == {"town", "size"} and len(found["town"]) <= 4 and found["size"] in (1, 2)
        assert whole.finish_reason == "stop"


def test_the_clients_own_parser_reads_structured_answers(client: openai.OpenAI):
    class Place(pydantic.BaseModel):
        open: bool
        size: Literal["small", "large"]

    ask = {"model": "small", "max_tokens": 120, "seed": 1}
    parsed = client.chat.completions.parse(messages=HELLO, response_format=Place, **ask).choices[0].message.parsed
    assert parsed is not None and parsed.size in ("small", "large")
    response = client.responses.parse(model="small", input="hello", text_format=Place, max_output_tokens=120)
    assert response.output_parsed is not None and isinstance(response.output_parsed.open, bool)


def test_json_mode_and_the_other_formats(client: openai.OpenAI):
    def answer(**wanted) -> str:
        found = client.chat.completions.create(**GREEDY | {"max_tokens": 200}, response_format=wanted)  # type: ignore
        return found.choices[0].message.content or ""

    assert answer(type="choice", choices=["是", "否"]) in ("是", "否")
    assert re.fullmatch("[ab]{3}-[0-9]{2}", answer(type="regex", regex="[ab]{3}-[0-9]{2}"))
    assert answer(type="json_object").lstrip().startswith("{")


def test_reasoning_stands_beside_the_answer():
    """The template opens the reasoning, a bias on one token fills it, and the limit of tokens cuts it off."""
    model = small_model()
    model.tokenizer = with_template(f"{small_tokenizer().chat_template}{{{{ '<think>' }}}}{{# </think> #}}")
    with running(models=[Served.of("thinker", model)]) as server:
        token = small_tokenizer().encode("x")[0]
        ask = {"model": "thinker", "messages": HELLO, "max_tokens": 5, "logit_bias": {str(token): 100}}
        client = server.client()
        found = client.chat.completions.create(**ask).choices[0].message  # type: ignore[call-overload]
        assert found.reasoning_content == "xxxxx" and found.content == ""
        parts = list(client.chat.completions.create(**ask, stream=True))  # type: ignore[call-overload]
        reasoning = [getattr(part.choices[0].delta, "reasoning_content", None) or "" for part in parts]
        assert "".join(reasoning) == "xxxxx" and not any(part.choices[0].delta.content for part in parts)
        response = client.responses.create(model="thinker", input="hello", max_output_tokens=5, temperature=0)
        assert response.output_text == "" and [item.type for item in response.output] == ["message", "reasoning"]


def test_developer_messages_and_neighbours_of_one_role_are_understood(client: openai.OpenAI, engine: Engine):
    messages = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "你好"}]},
        {"role": "user", "content": "hello"},
    ]
    found = client.chat.completions.create(**GREEDY | {"messages": messages}).choices[0].message.content
    same = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "你好\n\nhello"}]
    assert found == engine.chat(same, Sampling(temperature=0, max_tokens=12)).text


def test_completions_take_texts_and_tokens(client: openai.OpenAI, engine: Engine):
    ids = small_tokenizer().encode("hello")
    expected = engine.generate(["hello"], Sampling(temperature=0, max_tokens=6))[0].text
    for prompt in ("hello", ids, ["hello", "hello"], [ids, ids]):
        found = client.completions.create(model="small", prompt=prompt, max_tokens=6, temperature=0)
        assert {choice.text for choice in found.choices} == {expected}
    parts = client.completions.create(model="small", prompt="hello", max_tokens=6, temperature=0, stream=True)
    assert "".join(part.choices[0].text for part in parts) == expected


def test_completion_log_probabilities_have_offsets_into_the_text(client: openai.OpenAI):
    found = client.completions.create(model="small", prompt="hello", max_tokens=6, temperature=0, logprobs=3)
    logprobs = found.choices[0].logprobs
    assert logprobs is not None and logprobs.tokens is not None and logprobs.text_offset is not None
    assert len(logprobs.tokens) == len(logprobs.token_logprobs or []) == len(logprobs.top_logprobs or []) == 6
    assert logprobs.text_offset == numpy.cumsum([0, *map(len, logprobs.tokens[:-1])]).tolist()


def test_echo_puts_the_prompt_in_front(client: openai.OpenAI):
    found = client.completions.create(model="small", prompt="hello", max_tokens=3, temperature=0, echo=True)
    assert found.choices[0].text.startswith("hello")


def test_best_of_returns_the_best_by_mean_log_probability(client: openai.OpenAI):
    ask = {"model": "small", "prompt": "hello", "max_tokens": 4, "seed": 3, "logprobs": 0}
    many = client.completions.create(**ask, n=4).choices
    best = client.completions.create(**ask, best_of=4).choices
    means = {choice.text: numpy.mean(choice.logprobs.token_logprobs) for choice in many if choice.logprobs}
    assert len(best) == 1 and means[best[0].text] == max(means.values())


def test_embeddings_are_the_encoders_in_both_formats(client: openai.OpenAI, server: Running):
    texts = ["hello world", "你好"]
    expected = small_encoder().embed(texts).numpy()
    decoded = client.embeddings.create(model="vectors", input=texts)
    listed = client.embeddings.create(model="vectors", input=texts, encoding_format="float")
    assert decoded.usage.prompt_tokens == sum(len(small_tokenizer().encode(text)) for text in texts)
    for found in (decoded, listed):
        numpy.testing.assert_allclose([one.embedding for one in found.data], expected, atol=1e-6)
    raw = client.embeddings.with_raw_response.create(model="vectors", input="你好", encoding_format="base64")
    coded = raw.http_response.json()["data"][0]["embedding"]
    numpy.testing.assert_allclose(numpy.frombuffer(base64.b64decode(coded), "<f4"), expected[1], atol=1e-6)


def test_responses_answer_in_the_newer_shape(client: openai.OpenAI, engine: Engine):
    expected = engine.chat([{"role": "system", "content": "Be brief."}, *HELLO], Sampling(temperature=0, max_tokens=8))
    ask = {"model": "small", "instructions": "Be brief.", "temperature": 0, "max_output_tokens": 8}
    found = client.responses.create(input="hello", **ask)
    assert found.output_text == expected.text and found.status == "incomplete"
    assert found.usage is not None and found.usage.output_tokens == 8
    assert client.responses.create(input=[{"role": "user", "content": "hello"}], **ask).output_text == expected.text
    with client.responses.stream(input="hello", **ask) as stream:
        events = list(stream)
    assert "".join(e.delta for e in events if e.type == "response.output_text.delta") == expected.text
    assert [events[0].type, events[-1].type] == ["response.created", "response.incomplete"]
    assert [event.sequence_number for event in events] == list(range(len(events)))


@pytest.mark.parametrize(
    ("change", "error", "param", "said"),
    [
        ({"model": "none"}, openai.NotFoundError, "model", "small, vectors"),
        ({"model": "vectors"}, openai.BadRequestError, "model", "vectors"),
        ({"temperature": 9}, openai.BadRequestError, "temperature", "less than or equal to 2"),
        ({"max_tokens": -1}, openai.BadRequestError, "max_tokens", "greater than or equal to 1"),
        ({"messages": []}, openai.BadRequestError, "messages", "at least 1"),
        ({"messages": [{"role": "boss", "content": "x"}]}, openai.BadRequestError, None, "role"),
        ({"messages": [{"role": "user", "content": None}]}, openai.BadRequestError, "messages[0].content", "text"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, openai.BadRequestError, None, "image"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, openai.BadRequestError, None, "role"),
        ({"logit_bias": {"x": 1}}, openai.BadRequestError, "logit_bias", "token id"),
        ({"response_format": {"type": "yaml"}}, openai.BadRequestError, "response_format.type", "json_schema"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "colour"}}}},
            openai.BadRequestError,
            None,
            "colour",
        ),
        ({"tools": [{"type": "function"}]}, openai.BadRequestError, None, "tool"),
        ({"tool_choice": "required"}, openai.BadRequestError, "tool_choice", "tools"),
        ({"tools": [WEATHER], "tool_choice": "maybe"}, openai.BadRequestError, "tool_choice", "required"),
        ({"top_logprobs": 3}, openai.BadRequestError, "top_logprobs", "logprobs"),
        ({"extra_body": {"temprature": 1}}, openai.BadRequestError, "temprature", "not permitted"),
    ],
)
def test_a_mistake_is_told_in_openais_format(client: openai.OpenAI, change, error, param, said: str):
    with pytest.raises(error) as caught:
        client.chat.completions.create(**GREEDY | change)
    body = caught.value.body
    assert isinstance(body, dict) and set(body) == {"message", "type", "param", "code"}
    assert said in body["message"] and body["type"] == "invalid_request_error"
    assert param is None or body["param"] == param


def test_a_prompt_longer_than_the_context_is_refused_with_both_numbers(client: openai.OpenAI):
    for stream in (False, True):
        with pytest.raises(openai.BadRequestError) as caught:
            messages = [{"role": "user", "content": "x" * 900}]
            client.chat.completions.create(**GREEDY | {"messages": messages, "stream": stream})
        assert caught.value.code == "context_length_exceeded"
        assert "256" in str(caught.value) and "917" in str(caught.value)
    with pytest.raises(openai.BadRequestError, match=r"input\[1\] has \d+ tokens, and this model reads 64"):
        client.embeddings.create(model="vectors", input=["a", "x" * 900])


def test_an_empty_text_has_no_embedding(client: openai.OpenAI):
    with pytest.raises(openai.BadRequestError, match="empty text"):
        client.embeddings.create(model="vectors", input=["a", ""])


def test_an_answer_stops_at_the_end_of_the_context(client: openai.OpenAI):
    ask = GREEDY | {"max_tokens": 10_000, "extra_body": {"ignore_eos": True}}
    found = client.chat.completions.create(**ask)
    assert found.usage is not None and found.usage.total_tokens == 256 and found.choices[0].finish_reason == "length"


def test_special_tokens_in_a_message_are_text(client: openai.OpenAI, server: Running):
    messages = [{"role": "user", "content": "<|im_end|>"}]
    found = httpx2.post(f"{server.url}/tokenize", json={"model": "small", "messages": messages}).json()
    plain = httpx2.post(f"{server.url}/tokenize", json={"model": "small", "messages": HELLO}).json()
    ends = [tokens.count(small_tokenizer().end_of_turn_id) for tokens in (found["tokens"], plain["tokens"])]
    assert ends[0] == ends[1] and found["count"] == len(found["tokens"]) and found["max_model_len"] == 256
