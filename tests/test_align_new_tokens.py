"""New special tokens, and a chat template for a model that has none."""

from __future__ import annotations

from pathlib import Path

import pytest
import tokenizers
import torch
from tokenizers import decoders, models, pre_tokenizers, trainers

from luhuo.align.new_tokens import with_template, with_tokens
from luhuo.dialogue.conversation import Conversation
from luhuo.dialogue.render import render
from luhuo.model.decoder import Decoder
from luhuo.model.initialise import initialise
from luhuo.model.load import load
from luhuo.model.save import save
from luhuo.tokenizer.tokenizer import Tokenizer
from tests.small_chat import small_config, small_model, small_tokenizer
from tests.small_chat import with_template as tokenizer_with
from tests.test_align_sft_depth import TURNS


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("count", [2, 20])
def test_new_tokens_begin_as_the_mean_of_the_ordinary_ones_and_transformers_has_them(
    tied: bool, count: int, tmp_path: Path
):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = small_model(tie_embeddings=tied)
    before, tokenizer = model.config.vocab_size, small_tokenizer()
    tokens = [f"<|tool_{i}|>" for i in range(count)]
    ordinary = [i for i in range(before) if i not in tokenizer.special_ids]
    means = [t[ordinary].mean(0) for t in (model.embedding.detach(), model.head_weight.detach())]
    old = model.embedding.detach().clone()
    model, new = with_tokens(model, tokens)
    assert len(new) == count and model.config.vocab_size == max(before, before + count - 12)  # 12 reserved places
    for table, mean in zip((model.embedding, model.head_weight), means, strict=True):
        torch.testing.assert_close(table[new], mean.expand(count, -1))
    kept = [i for i in range(before) if i not in new]
    assert torch.equal(model.embedding[kept], old[kept])
    save(model, tmp_path)
    theirs, reader = AutoModelForCausalLM.from_pretrained(tmp_path).eval(), AutoTokenizer.from_pretrained(tmp_path)
    assert reader.convert_tokens_to_ids(tokens) == [model.tokenizer.token_id(t) for t in tokens]  # type: ignore[union-attr]
    assert reader(f"hello{tokens[-1]}")["input_ids"][-1] == model.tokenizer.token_id(tokens[-1])  # type: ignore[union-attr]
    ids = torch.tensor([[20, *new, 30]])
    with torch.no_grad():
        torch.testing.assert_close(model(ids), theirs(ids).logits, atol=1e-4, rtol=1e-4)
    assert load(tmp_path, dtype="fp32", device="cpu").config.vocab_size == model.config.vocab_size


def test_a_token_that_is_known_keeps_its_row():
    model = small_model()
    row = model.embedding[model.tokenizer.end_of_turn_id].clone()  # type: ignore[union-attr]
    model, new = with_tokens(model, ["<|im_end|>"])
    assert new == [] and torch.equal(model.embedding[model.tokenizer.end_of_turn_id], row)  # type: ignore[union-attr]


def test_chatml_gives_a_base_model_a_template_a_turn_end_and_its_tokens():
    bare = tokenizer_with(None)
    config = dict(bare._config) | {"eos_token": "<|endoftext|>"}
    model = small_model()
    model.tokenizer = Tokenizer(bare._core, config, None)
    model = with_template(model, None)
    assert model.tokenizer is not None
    row = render(Conversation.of(TURNS[:2]), model.tokenizer)
    assert model.tokenizer.decode([i for i, t in zip(row.ids, row.mask, strict=True) if t]) == "world<|im_end|>"


def test_chatml_for_a_vocabulary_without_its_tokens_ends_turns_with_a_new_one():
    core = tokenizers.Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
    core.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(special_tokens=["<s>", "</s>"], initial_alphabet=alphabet, show_progress=False)
    core.train_from_iterator([], trainer)
    model = Decoder(small_config().model_copy(update={"vocab_size": core.get_vocab_size()}))
    initialise(model, 0)
    model.tokenizer = Tokenizer(core, {"eos_token": "</s>", "bos_token": "<s>"}, None)
    model = with_template(model, None)
    assert model.tokenizer is not None and model.config.vocab_size == 258 + 2
    ends = model.tokenizer.end_of_turn_id
    assert (
        model.tokenizer.token_text(ends) == "<|im_end|>"
        and model.tokenizer.token_text(model.tokenizer.eos_id) == "</s>"
    )
    row = render(Conversation.of(TURNS[:2]), model.tokenizer)
    assert (
        row.ids[row.mask.index(1) :].count(ends) == 1 and row.mask[len(row.ids) - 1 - row.ids[::-1].index(ends)] == 1
    )
