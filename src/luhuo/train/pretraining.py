"""What a pretraining run is made of, for each objective: the model, its batches, its loss, and held-out scores."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.core.seeds import derive_seed
from luhuo.corpus.loader import PackedLoader
from luhuo.corpus.mixture_loader import MixtureLoader
from luhuo.corpus.rows import RowLoader
from luhuo.corpus.shards import read_header
from luhuo.model.config import ModelConfig
from luhuo.model.count_stack import total
from luhuo.model.decoder import Decoder
from luhuo.model.encoder import Encoder
from luhuo.model.encoder_config import EncoderConfig
from luhuo.model.encoder_decoder import EncoderDecoder
from luhuo.model.initialise import initialise
from luhuo.model.initialise_stack import initialise_stack
from luhuo.model.load import MODELS, load
from luhuo.tokenizer.extend import text_fingerprint
from luhuo.tokenizer.tokenizer import Tokenizer
from luhuo.train.architectures import reshaped
from luhuo.train.denoising.score import gap_scores
from luhuo.train.denoising.setup import Prepared, check_fits, prepare, source
from luhuo.train.heldout import bits_per_byte
from luhuo.train.objective import CausalLM, MaskedLM, Objective, SequenceToSequence
from luhuo.train.prefetch import Loader
from luhuo.train.sizes import Derived, derive

if TYPE_CHECKING:
    from luhuo.train.stages import PretrainStage

KINDS: dict[str, type] = {"masked": Encoder, "span": EncoderDecoder, "infilling": EncoderDecoder}
"""What an objective trains; the others train a decoder."""
LOSSES: dict[str, type[Objective]] = {
    "masked": MaskedLM,
    "span": SequenceToSequence,
    "infilling": SequenceToSequence,
}
"""What its loss is; that of the others is next-token prediction, on rows that are made for it."""


@dataclass(frozen=True)
class Task:
    """The parts of a run that depend on the objective."""

    objective: Objective
    loader: Loader
    evaluate: Callable[[Any], dict[str, float]]


def build(stage: PretrainStage, tokenizer: Tokenizer) -> tuple[Any, Derived, Prepared]:
    """The model to train, the plan of the run, and the tokenizer with what the objective needs.

    Raises `LuhuoError` if a given model is of another kind, has another tokenizer, or no room for special tokens.
    """
    given: dict[str, Any] = {name: getattr(stage, name) for name in ("length", "batch", "tokens")}
    given |= {"learning_rate": stage.learning_rate or None, "optimiser": stage.optimiser}
    if stage.model is not None:
        return _given(stage, tokenizer, given)
    plan = derive(stage.size, tokenizer.vocab_size, shape=stage.shape, **given)
    prepared = prepare(stage, tokenizer, plan.length)
    size = prepared.tokenizer.vocab_size
    if size > tokenizer.vocab_size:
        plan = derive(stage.size, size, shape=stage.shape, **given)
    if prepared.layout != "decoder":
        plan = reshaped(plan, prepared.layout, stage.shape, vocab_size=size, **prepared.fields)
    config: Any = plan.model
    fill: Any = initialise if isinstance(config, ModelConfig) else initialise_stack
    model = fill(MODELS[type(config)](config), derive_seed(stage.seed, "weights"))
    model.tokenizer = prepared.tokenizer
    return model, plan, prepared


def _given(stage: PretrainStage, tokenizer: Tokenizer, given: dict[str, Any]) -> tuple[Any, Derived, Prepared]:
    assert stage.model is not None
    model = load(stage.model, dtype="fp32", device="cpu")
    wanted = KINDS.get(stage.objective, Decoder)
    if not isinstance(model, wanted) or (stage.objective == "masked" and not _fits_masked(stage, model.config)):
        raise LuhuoError(
            tr("This model does not fit the objective.", "该模型与训练目标不符。"),
            expected=_expected(stage),
            found=f"{type(model).__name__} ({model.config.family}{_head(model.config)})",
            where=stage.model,
            fix=tr("Choose another objective, or leave `model` out.", "换一个目标，或去掉 model。"),
        )
    plan = derive(total(model.config), tokenizer.vocab_size, **given).of(model.config)  # type: ignore[arg-type]
    prepared = prepare(stage, tokenizer, plan.length)
    known = model.tokenizer
    if known is not None and known.fingerprint not in (tokenizer.fingerprint, prepared.tokenizer.fingerprint):
        if text_fingerprint(known) != text_fingerprint(tokenizer):
            raise other_tokenizer(known.fingerprint, tokenizer, stage.model)
        prepared = prepare(stage, known, plan.length)  # special tokens that an earlier objective added stay
    check_fits(prepared, model.config.vocab_size, stage.model)
    if stage.objective == "prefix" and model.config.prefix_end != prepared.fields["prefix_end"]:  # type: ignore[union-attr]
        raise LuhuoError(
            tr("This model does not read a prefix both ways.", "该模型不能双向读取前缀。"),
            expected=f"prefix_end={prepared.fields['prefix_end']}",
            found=f"prefix_end={model.config.prefix_end}",  # type: ignore[union-attr]
            where=stage.model,
        )
    model.tokenizer = prepared.tokenizer
    return model, plan, prepared


def _fits_masked(stage: PretrainStage, config: Any) -> bool:
    return config.head == ("masked_lm" if stage.masked.relation == "none" else "pretraining")


def _expected(stage: PretrainStage) -> str:
    kind = KINDS.get(stage.objective, Decoder).__name__
    if stage.objective != "masked":
        return kind
    return f"{kind}, head={'masked_lm' if stage.masked.relation == 'none' else 'pretraining'}"


def _head(config: Any) -> str:
    return f", head={config.head}" if isinstance(config, EncoderConfig) else ""


def other_tokenizer(fingerprint: str, tokenizer: Tokenizer, where: str) -> LuhuoError:
    """The error for data or a model that was made with another tokenizer."""
    return LuhuoError(
        tr("Made with another tokenizer than the one given.", "所用分词器与给定的分词器不同。"),
        expected=fingerprint[:16],
        found=tokenizer.fingerprint[:16],
        where=where,
        fix=tr("Give the tokenizer it was made with.", "请给出制作它时所用的分词器。"),
    )


def task(stage: PretrainStage, prepared: Prepared, length: int, rows: int, steps: int, rank: int, world: int) -> Task:
    """Loss, batches and scores: `rows` rows of `length` tokens a step in each of `world` processes."""
    objective = LOSSES.get(stage.objective, CausalLM)()
    loader = _loader(stage, prepared, length, rows, steps, rank, world)
    return Task(objective, loader, _scores(stage, prepared, length, rows))


def _loader(
    stage: PretrainStage, prepared: Prepared, length: int, rows: int, steps: int, rank: int, world: int
) -> Loader:
    folder, seed = Path(stage.shards) / "train", derive_seed(stage.seed, "loader", "train")
    if stage.mixture is not None:
        whole: dict[str, int] = {"rows": rows * world * steps, "batch": rows, "length": length, "seed": seed}
        return MixtureLoader(folder, stage.mixture, **whole, rank=rank, world=world)
    if stage.objective == "causal" and stage.replay is None:
        return PackedLoader(folder, batch=rows, length=length, seed=seed, rank=rank, world=world)
    new = source(stage, prepared, folder, length, seed)
    if stage.replay is None:
        return RowLoader(new, batch=rows, rank=rank, world=world)
    seed = derive_seed(stage.seed, "loader", "replay")
    old = source(stage, prepared, Path(stage.replay.shards) / "train", length, seed)
    return RowLoader(new, batch=rows, rank=rank, world=world, old=old, share=stage.replay.share)


def _spaced(texts: PackedLoader, batches: int, rows: int) -> Iterator[dict[str, np.ndarray]]:
    """At most so many batches of `rows` rows, from all over the texts, so that no small source is missed by chance."""
    step = max(1, texts.batches_per_epoch // (batches * rows))
    chosen = itertools.islice(texts.epoch(), 0, step * batches * rows, step)
    while several := list(itertools.islice(chosen, rows)):
        yield {name: np.concatenate([row[name] for row in several]) for name in several[0]}


def _scores(stage: PretrainStage, prepared: Prepared, length: int, rows: int) -> Callable[[Any], dict[str, float]]:
    """Bits per byte where a model writes on, and how well it fills the gaps of its objective."""
    folder, seed = Path(stage.shards) / "valid", derive_seed(stage.seed, "loader", "valid")
    batches, found = max(1, stage.eval_tokens // (rows * length)), []
    if stage.objective in ("causal", "fim"):
        tokenizer, groups = prepared.tokenizer, read_header(folder).get("groups", [])
        sizes = [len(tokenizer.token_bytes(token)) for token in range(tokenizer.vocab_size)]
        texts = lambda: PackedLoader(folder, batch=1, length=length, seed=seed, groups=True)  # noqa: E731
        found.append(bits_per_byte(lambda: _spaced(texts(), batches, rows), sizes, batches, groups))
    if stage.objective != "causal":
        objective: Any = LOSSES.get(stage.objective, CausalLM)()
        gaps = RowLoader(source(stage, prepared, folder, length, seed, measure=True), batch=rows)
        name = "middle" if stage.objective == "fim" else ""
        found.append(gap_scores(objective, lambda: gaps.first(batches), name))
    return lambda model: {name: value for score in found for name, value in score(model).items()}
