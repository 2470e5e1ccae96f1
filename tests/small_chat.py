"""A small tokenizer, a small model with opinions, and conversations, for the tests of dialogue, inference and SFT."""

from __future__ import annotations

import random
from functools import cache

import tokenizers
import torch
from tokenizers import decoders, models, pre_tokenizers, trainers

from luhuo.model.config import ModelConfig
from luhuo.model.decoder import Decoder
from luhuo.model.initialise import initialise
from luhuo.tokenizer.chat import SPECIAL_TOKENS
from luhuo.tokenizer.tokenizer import Tokenizer

TEXTS = ["hello world, how are you today", "你好，世界。今天天气很好", "the answer is 42 和 苹果"]


@cache
def small_tokenizer() -> Tokenizer:
    """Byte-level BPE with a few merges, so that most Chinese characters are several tokens."""
    core = tokenizers.Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
    core.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    trainer = trainers.BpeTrainer(
        vocab_size=310,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(TEXTS * 5, trainer)
    return Tokenizer.born_here(core)


def with_template(template: str | None) -> Tokenizer:
    """The small tokenizer with another chat template."""
    base = small_tokenizer()
    return Tokenizer(base._core, base._config, template)


def small_config(**changes: int) -> ModelConfig:
    """A model of two layers over the small tokenizer."""
    shape = {"hidden_size": 64, "layers": 2, "heads": 4, "kv_heads": 2, "head_dim": 16, "intermediate_size": 96}
    return ModelConfig(vocab_size=small_tokenizer().vocab_size, **shape | {"max_positions": 256} | changes)


def small_model(*, opinionated: bool = True, **changes: int) -> Decoder:
    """A random model in fp32; `opinionated`: with weights large enough that its greedy text depends on the prompt."""
    model = initialise(Decoder(small_config(**changes)), 0).eval()
    if opinionated:
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() == 2:
                    parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    model.tokenizer = small_tokenizer()
    return model


def random_prompts(count: int, longest: int = 40) -> list[list[int]]:
    """Ragged prompts without special tokens."""
    chance = random.Random(0)
    vocab = small_tokenizer().vocab_size
    return [[chance.randrange(20, vocab) for _ in range(chance.randrange(1, longest))] for _ in range(count)]
