"""What the stages that sample have in common: prompts, sampling, the reference, held-out scores."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from luhuo.adapter.attach import attached
from luhuo.align.policy import reference
from luhuo.align.prompts import Prompt, render_prompts
from luhuo.align.rewards.function import load
from luhuo.align.rollout import Environment, Rollout
from luhuo.align.rollout_config import RolloutConfig
from luhuo.align.rollout_loader import Judge
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.core.progress import say
from luhuo.files.readers import list_files
from luhuo.files.references import resolve
from luhuo.model.decoder import Decoder
from luhuo.tokenizer.tokenizer import Tokenizer

if TYPE_CHECKING:
    from luhuo.align.group_value import Reference
    from luhuo.train.trainer import Evaluate


def tokenizer_of(model: Decoder, where: str) -> Tokenizer:
    """The model's tokenizer. Raises `LuhuoError` if it has none."""
    if model.tokenizer is None:
        raise LuhuoError(
            tr("The model has no tokenizer.", "该模型没有分词器。"), expected="tokenizer.json", where=where
        )
    return model.tokenizer


def open_prompts(config: RolloutConfig, given: Sequence[str] | str, model: Decoder) -> list[Prompt]:
    """The prompts of some files that leave room for an answer; how many do not is said.

    Raises `LuhuoError` if none does.
    """
    files = [
        file for value in ([given] if isinstance(given, str) else given) for file in list_files(resolve(value).path)
    ]
    prompts = render_prompts(files, tokenizer_of(model, config.model), system=config.system)
    room = model.config.max_positions - config.max_tokens
    fitting = [prompt for prompt in prompts if len(prompt.ids) <= room]
    if not fitting:
        raise LuhuoError(
            tr("No prompt leaves room for an answer.", "没有任何提示为回答留出余地。"),
            expected=tr(f"at most {room} tokens", f"至多 {room} 个词元"),
            found=min(len(prompt.ids) for prompt in prompts),
            where="max_tokens",
            fix=tr("Lower max_tokens.", "请减小 max_tokens。"),
        )
    if len(fitting) < len(prompts):
        left = len(prompts) - len(fitting)
        say(tr(f"{left} prompts are too long and are left out.", f"{left} 个提示过长，已略去。"))
    return fitting


def open_rollout(config: RolloutConfig, model: Decoder, prompts: Sequence[Prompt], *, greedy: bool = False) -> Rollout:
    """Sampling as the stage says, or one greedy answer a prompt. With an environment a conversation may fill the
    model's context."""
    environment: Environment | None = None
    length = max(len(prompt.ids) for prompt in prompts) + config.max_tokens
    if config.environment is not None:
        environment = load(resolve(config.environment).path, config.environment_function)
        length = model.config.max_positions
    return Rollout(
        model,
        samples=1 if greedy else config.samples,
        max_tokens=config.max_tokens,
        length=length,
        temperature=0.0 if greedy else config.temperature,
        at_once=config.at_once,
        environment=environment,
        turns=config.turns,
    )


def reference_of(model: Decoder) -> Reference:
    """The policy as it is now, to be asked later: with an adapter the model without what training adds, otherwise a
    frozen copy of all weights."""
    if attached(model) is not None:

        @contextmanager
        def without_adapter() -> Iterator[Decoder]:
            with reference(model):
                yield model

        return without_adapter
    frozen = copy.deepcopy(model).requires_grad_(False).eval()

    @contextmanager
    def copied() -> Iterator[Decoder]:
        yield frozen.compute_in(model.dtype)

    return copied


def held_out(config: RolloutConfig, model: Decoder, score: Judge) -> Evaluate | None:
    """A scorer for the trainer: mean reward of greedy answers to held-out prompts, and its parts by name."""
    if config.valid is None:
        return None
    prompts = dict(enumerate(open_prompts(config, config.valid, model)))
    rollout = open_rollout(config, model, list(prompts.values()), greedy=True)

    def evaluate(policy: Decoder) -> dict[str, float]:
        samples = [sample for group in rollout.sample(prompts, 0).values() for sample in group]
        found = score(samples)
        known = [value for value in found.scores if value is not None]
        columns = {"reward": known, "truncated": [float(not sample.ended) for sample in samples]}
        columns |= {f"reward.{name}": list(values) for name, values in found.parts.items()}
        return {f"valid.{name}": sum(values) / len(values) for name, values in columns.items() if values}

    return evaluate
