"""SFT in depth: weights, noise, longer contexts, new tokens, mixed sets, plain text; each checked where it acts."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from luhuo.adapter.open import open_decoder
from luhuo.align.long_context import stretched
from luhuo.align.sft import Rules, Source, prepare
from luhuo.align.sft_fields import RopeStretch
from luhuo.align.stages import SftStage
from luhuo.align.supervised import SupervisedLM, added, embedding_noise
from luhuo.core.artifact import produce
from luhuo.core.errors import LuhuoError
from luhuo.dialogue.conversation import Conversation
from luhuo.dialogue.mixing import Share, chosen
from luhuo.dialogue.packing import ConversationLoader, TokenStore
from luhuo.dialogue.render import Rendered, render
from luhuo.dialogue.texts import Passage, pieces, render_passage
from luhuo.model.decoder import Decoder
from luhuo.model.load import load
from luhuo.model.save import save
from luhuo.train.objective import CausalLM
from tests.small_chat import small_config, small_model, small_tokenizer
from tests.small_chat import with_template as tokenizer_with

TURNS = [
    {"role": "user", "content": "hello"},
    {"role": "assistant", "content": "world"},
    {"role": "user", "content": "你好"},
    {"role": "assistant", "content": "今天天气很好"},
]


def batch_of(*conversations: list[dict[str, Any]], length: int = 64, **options: Any) -> dict[str, torch.Tensor]:
    store = TokenStore(render(Conversation.of(turns), small_tokenizer()) for turns in conversations)
    loader = ConversationLoader(store, batch=1, length=length, seed=0, pad_id=small_tokenizer().pad_id, **options)
    return {name: torch.from_numpy(array) for name, array in next(iter(loader)).items()}


def weighted(*weights: float) -> list[dict[str, Any]]:
    answers = iter(weights)
    return [turn | ({"weight": next(answers)} if turn["role"] == "assistant" else {}) for turn in TURNS]


def test_packed_conversations_have_the_loss_they_have_alone_padded():
    model, objective = small_model(), SupervisedLM()
    store = TokenStore(render(Conversation.of(c), small_tokenizer()) for c in (TURNS, weighted(0.5, 3), TURNS[2:]))
    packed, alone = (
        ConversationLoader(store, batch=size, length=length, seed=0, pad_id=1) for size, length in ((1, 136), (3, 60))
    )
    assert [len(loader.rows(0)) for loader in (packed, alone)] == [1, 3]
    batches = [{n: torch.from_numpy(a) for n, a in next(iter(loader)).items()} for loader in (packed, alone)]
    (one, weight, _), (three, same, _) = (objective.loss(model, batch) for batch in batches)
    assert one.item() == pytest.approx(three.item(), rel=1e-5) and weight.item() == pytest.approx(same.item())


# Weights and turns


def test_a_message_s_weight_multiplies_the_loss_of_its_tokens_and_of_its_end_of_turn():
    model, objective = small_model(), SupervisedLM()
    first, second = (objective.loss(model, batch_of(weighted(*w))) for w in ((1, 0), (0, 1)))
    both, weight, _ = objective.loss(model, batch_of(weighted(0.5, 2)))
    assert both.item() == pytest.approx(0.5 * first[0].item() + 2 * second[0].item(), rel=1e-5)
    assert weight.item() == pytest.approx(0.5 * first[1].item() + 2 * second[1].item())
    assert objective.weight(batch_of(weighted(0.5, 2))).item() == weight.item()


def test_weights_of_one_change_nothing_and_a_zero_weight_is_no_target():
    assert "weights" not in batch_of(weighted(1, 1))
    row = render(Conversation.of(weighted(0, 1)), small_tokenizer())
    assert not row.weights and small_tokenizer().decode([i for i, t in zip(row.ids, row.mask, strict=True) if t]) == (
        "今天天气很好<|im_end|>"
    )


def test_gradients_of_weighted_targets_are_those_of_the_weighted_sum():
    model, batch = small_model(), batch_of(weighted(0.25, 3))
    SupervisedLM().loss(model, batch)[0].backward()
    found = model.embedding.grad
    model.zero_grad()
    valid = CausalLM.targets(batch)
    logits = model(batch["ids"][:, :-1], segments=batch["segments"][:, :-1])[valid]
    losses = torch.nn.functional.cross_entropy(logits, batch["ids"][:, 1:][valid], reduction="none")
    (losses * batch["weights"][:, 1:][valid]).sum().backward()
    torch.testing.assert_close(found, model.embedding.grad, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("weight", [-1, "much", float("nan"), [1]])
def test_a_weight_that_is_none_is_refused(weight: Any):
    with pytest.raises(LuhuoError, match="weight"):
        Conversation.of([TURNS[0], TURNS[1] | {"weight": weight}])


def test_last_turn_only_leaves_the_last_target_and_keeps_the_context(tmp_path: Path):
    file = tmp_path / "x.jsonl"
    file.write_text(json.dumps({"messages": TURNS}), encoding="utf-8")
    found = prepare([Source([file])], small_tokenizer(), Rules(128, turns="last"), quarantine=pytest.fail)
    ids, mask = found.store.get(0)
    assert small_tokenizer().decode(ids[mask == 1].tolist()) == "今天天气很好<|im_end|>"
    assert len(ids) == len(render(Conversation.of(TURNS), small_tokenizer()))


@pytest.mark.parametrize("plain", [False, True])
def test_a_limit_reads_the_first_rows_of_a_set_alone(tmp_path: Path, plain: bool):
    file = tmp_path / "x.jsonl"
    rows = [{"text": f"第 {number} 行"} if plain else {"messages": TURNS} for number in range(5)]
    file.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    sets = [Source([file], limit=3), Source([file])]
    found = prepare(sets, small_tokenizer(), Rules(128, plain=plain), quarantine=pytest.fail)
    assert [share.count for share in found.shares] == [3, 5] and found.counts["read"] == 8


def test_tools_of_a_row_reach_the_template():
    tool = {"type": "function", "function": {"name": "add", "parameters": {}}}
    row = render(Conversation.of(TURNS[:2], tools=(tool,)), small_tokenizer())
    assert '"name": "add"' in small_tokenizer().decode(row.ids)


# NEFTune


def noisy_batch(**options: Any) -> dict[str, torch.Tensor]:
    return batch_of(TURNS, TURNS[:2], row_seeds=True, **options)


def test_noise_has_the_size_that_the_paper_gives_each_conversation():
    batch = noisy_batch()
    noise, segments = embedding_noise(batch, 5.0, 64), batch["segments"][:, :-1]
    for segment in segments.unique().tolist():
        part = noise[segments == segment]
        bound = 5.0 / (len(part) * 64) ** 0.5 if segment else 0.0
        assert part.abs().max() <= bound and part.abs().mean() == pytest.approx(bound / 2, rel=0.1)


def test_noise_is_added_in_training_and_never_in_evaluation():
    model, batch = small_model(), noisy_batch()
    plain, noisy = (SupervisedLM(alpha).loss(model.train(), batch)[0].item() for alpha in (0.0, 15.0))
    assert plain != noisy
    assert SupervisedLM(15.0).loss(model.eval(), batch)[0].item() == pytest.approx(plain, rel=1e-6)
    assert "embedded" not in model.__dict__


def test_noise_belongs_to_the_row_and_not_to_the_split_into_micro_batches():
    store = TokenStore(render(Conversation.of(TURNS), small_tokenizer()) for _ in range(8))
    loader = ConversationLoader(store, batch=4, length=64, seed=0, pad_id=1, row_seeds=True)
    batch = {name: torch.from_numpy(array) for name, array in next(iter(loader)).items()}
    model, objective = small_model().train(), SupervisedLM(10.0)
    parts = [{name: tensor[i : i + 1] for name, tensor in batch.items()} for i in range(4)]
    whole = objective.loss(model, batch)[0].item()
    assert sum(objective.loss(model, part)[0].item() for part in parts) == pytest.approx(whole, rel=1e-5)
    assert len(set(batch["noise"].tolist())) == 4


def test_the_noise_of_a_resumed_run_is_that_of_an_uninterrupted_one():
    store = TokenStore(render(Conversation.of(TURNS), small_tokenizer()) for _ in range(3))
    options: dict[str, Any] = {"batch": 1, "length": 64, "seed": 0, "pad_id": 1, "row_seeds": True}
    stream, again = ConversationLoader(store, **options), ConversationLoader(store, **options)
    rows = iter(stream)
    for _ in range(5):
        next(rows)
    again.restore(stream.state())
    assert [next(rows)["noise"][0] for _ in range(4)] == [b["noise"][0] for b, _ in zip(again, range(4), strict=False)]


def test_a_model_reads_its_embeddings_plain_again_after_an_error():
    model, ids = small_model(), torch.tensor([[20, 21, 22]])
    before = model(ids)
    with pytest.raises(RuntimeError), added(model, torch.ones(1, 3, 64)):
        assert not torch.equal(model(ids), before)
        raise RuntimeError
    assert torch.equal(model(ids), before)


# Longer contexts


@pytest.mark.parametrize("kind", ["yarn", "linear", "llama3"])
def test_a_stretched_model_is_the_one_that_transformers_loads(kind: Any, tmp_path: Path):
    from transformers import AutoModelForCausalLM

    model = stretched(small_model(), RopeStretch(type=kind, factor=4.0))
    assert model.config.max_positions == 1024
    save(model, tmp_path)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path, attn_implementation="eager").eval()
    ids = torch.randint(20, 300, (1, 600), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(model(ids), theirs(ids).logits, atol=2e-4, rtol=1e-4)
    assert theirs.config.max_position_embeddings == 1024
    again = load(tmp_path, dtype="fp32", device="cpu")
    with torch.no_grad():
        assert torch.equal(again(ids), model(ids))


def test_stretching_twice_in_the_same_way_changes_nothing_and_in_another_is_refused():
    model = stretched(small_model(), RopeStretch(factor=4.0))
    assert stretched(model, RopeStretch(factor=4.0)) is model
    with pytest.raises(LuhuoError, match="cannot be stretched"):
        stretched(model, RopeStretch(factor=8.0))


def test_a_model_without_rotary_positions_is_not_stretched():
    config = small_config().model_copy(update={"positions": "learned", "family": "gpt2"})
    with pytest.raises(LuhuoError, match="cannot be stretched"):
        stretched(Decoder(config), RopeStretch(factor=2.0))


# Mixed sets


def test_a_weight_says_how_often_a_set_is_seen():
    counts = Counter(int(i) for epoch in range(4) for i in chosen([Share(3, 2.0), Share(8, 0.25), Share(5)], 0, epoch))
    assert [counts[i] for i in range(16)] == [8] * 3 + [1] * 8 + [4] * 5


def test_the_part_of_a_set_that_is_seen_goes_round_it():
    first, second = (set(chosen([Share(10, 0.5)], 0, epoch).tolist()) for epoch in (0, 1))
    assert len(first) == 5 and first | second == set(range(10))


def test_a_loader_shows_a_weighted_mixture_in_every_epoch():
    store = TokenStore(Rendered([20 + i] * 4, [0, 1, 1, 1]) for i in range(6))
    loader = ConversationLoader(store, batch=1, length=8, seed=0, pad_id=1, shares=[Share(4), Share(2, 3.0)])
    seen = Counter(i for row in loader.rows(0) for i in row)
    assert [seen[i] for i in range(6)] == [1, 1, 1, 1, 3, 3]


def test_weights_so_small_that_nothing_is_left_are_refused():
    with pytest.raises(LuhuoError, match="holds no conversation"):
        chosen([Share(2, 0.1)], 0, 0)


def test_weights_of_one_leave_the_order_as_it_was():
    assert np.array_equal(chosen([Share(5), Share(4)], 0, 3), np.arange(9))
    generators = [np.random.default_rng(1) for _ in range(2)]
    assert np.array_equal(generators[0].permutation(9), generators[1].permutation(np.arange(9)))


# Plain text


def test_a_completion_and_the_end_of_the_text_are_targets_and_the_prompt_is_not():
    tokenizer = small_tokenizer()
    row = render_passage(Passage("hello ", "world"), tokenizer)
    assert tokenizer.decode([i for i, t in zip(row.ids, row.mask, strict=True) if t]) == " world<|endoftext|>"
    assert row.ids[: len(row.ids) - row.targets] == tokenizer.encode_prompt("hello")


def test_a_long_text_is_cut_into_rows_that_lose_nothing():
    whole = render_passage(Passage("", "hello world " * 20), small_tokenizer())
    parts = list(pieces(whole, 16))
    assert all(len(part) <= 16 for part in parts)
    assert [i for part in parts for i in part.ids[1:]] == whole.ids[1:]
    assert sum(part.targets for part in parts) == whole.targets


def test_plain_text_needs_no_template(tmp_path: Path):
    file = tmp_path / "x.jsonl"
    rows = [{"prompt": "hello", "completion": " world"}, {"prompt": "x", "completion": " "}]
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    found = prepare([Source([file])], tokenizer_with(None), Rules(32, plain=True), quarantine=pytest.fail)
    assert found.counts == Counter(read=2, used=1, empty_answer=1, split=0)


# The stage


def test_a_run_with_everything_learns_and_keeps_what_it_was_told(tmp_path: Path):
    save(small_model(opinionated=False), tmp_path / "base")
    for name, turns in (("a", TURNS), ("b", TURNS[2:])):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"messages": turns}, ensure_ascii=False), encoding="utf-8")
    stage = SftStage.parse(
        {
            "model": str(tmp_path / "base"),
            "data": [{"path": str(tmp_path / "a.jsonl"), "weight": 2}, str(tmp_path / "b.jsonl")],
            "valid": str(tmp_path / "b.jsonl"),
            "steps": 15,
            "batch": 128,
            "length": 128,
            "learning_rate": 0.01,
            "neftune": 5,
            "rope": {"type": "yarn", "factor": 2},
            "new_tokens": ["<|note|>"],
            "turns": "last",
            "dtype": "fp32",
            "device": "cpu",
            "threads": 1,
        }
    )
    done = produce("sft", stage, tmp_path / "out")
    model = load(done.path, dtype="fp32", device="cpu")
    assert model.config.rope.kind == "yarn" and model.config.max_positions == 512  # type: ignore[union-attr]
    assert model.tokenizer.token_id("<|note|>") in model.tokenizer.special_ids  # type: ignore[union-attr]
    assert done.manifest["metrics"]["valid.loss"] < 1.0


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"plain": True, "turns": "last"}, "plain text has no turns"),
        ({"chatml": True, "chat_template": "x.jinja"}, "exclude each other"),
        ({"data": [{"path": "x", "weight": 0}]}, "weight"),
        ({"rope": {"factor": 0.5}}, "rope.factor"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(settings: dict[str, Any], told: str):
    with pytest.raises(LuhuoError, match=told):
        SftStage.parse({"model": "m", "data": "d"} | settings)


def test_a_longer_context_does_not_go_with_an_adapter_alone(tmp_path: Path):
    save(small_model(), tmp_path / "base")
    (tmp_path / "x.jsonl").write_text(json.dumps({"messages": TURNS}), encoding="utf-8")
    stage = {"model": str(tmp_path / "base"), "data": str(tmp_path / "x.jsonl"), "length": 64, "threads": 1}
    stage |= {"device": "cpu", "steps": 1, "adapter": {"method": "lora", "rank": 2}}
    with pytest.raises(LuhuoError, match="adapter alone"):
        produce("sft", SftStage.parse(stage | {"rope": {"factor": 2}}), tmp_path / "a")
    with pytest.raises(LuhuoError, match="neither be trained nor saved"):
        produce("sft", SftStage.parse(stage | {"new_tokens": ["<|note|>"]}), tmp_path / "b")


def test_new_tokens_are_trained_and_saved_with_an_adapter(tmp_path: Path):
    model = small_model(opinionated=False)
    save(model, tmp_path / "base")
    rows = [{"messages": [TURNS[0], {"role": "assistant", "content": "world"}]}]
    (tmp_path / "x.jsonl").write_text(json.dumps(rows[0]), encoding="utf-8")
    template = (small_tokenizer().chat_template or "").replace(
        "{{- '<|im_start|>' + m", "{{- '<|note|><|im_start|>' + m"
    )
    (tmp_path / "x.jinja").write_text(template, encoding="utf-8")
    stage = {"model": str(tmp_path / "base"), "data": str(tmp_path / "x.jsonl"), "length": 64, "steps": 3, "batch": 64}
    stage |= {"adapter": {"method": "lora", "rank": 2, "train": ["embed_tokens"]}, "new_tokens": ["<|note|>"]}
    stage |= {"chat_template": str(tmp_path / "x.jinja"), "device": "cpu", "threads": 1, "learning_rate": 0.01}
    done = produce("sft", SftStage.parse(stage), tmp_path / "out")
    found = open_decoder(str(done.path), dtype="fp32", device="cpu")
    assert found.tokenizer is not None and "<|note|>" in found.tokenizer.decode(
        render(Conversation.of(TURNS[:2]), found.tokenizer).ids
    )
    note = found.tokenizer.token_id("<|note|>")
    ordinary = [i for i in range(310) if i not in small_tokenizer().special_ids]
    mean = model.embedding[ordinary].mean(0)
    far, near = ((found.embedding[note] - row).norm() for row in (model.embedding[note], mean))
    assert near < far and near > 0, "it begins as the mean and is trained from there"
