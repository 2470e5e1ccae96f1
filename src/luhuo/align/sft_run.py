"""A run of supervised fine-tuning: the model made ready, the data read and checked, the training, the result."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from luhuo.align.control.codes import with_codes
from luhuo.align.data_check.first_look import FirstLook
from luhuo.align.long_context import stretched
from luhuo.align.new_tokens import with_template, with_tokens
from luhuo.align.policy import keep_policy, open_policy
from luhuo.align.sft import Prepared, Rules, Source, held_out, prepare
from luhuo.align.sft_fields import DataSet
from luhuo.align.supervised import SupervisedLM
from luhuo.core.artifact import Workspace
from luhuo.core.device import pick_dtype
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.core.progress import say
from luhuo.dialogue.packing import ConversationLoader
from luhuo.dialogue.preview import preview
from luhuo.files.readers import list_files
from luhuo.files.records import Broken
from luhuo.files.references import resolve
from luhuo.model.decoder import Decoder
from luhuo.tokenizer.tokenizer import Tokenizer
from luhuo.train.parallel import spread, whole
from luhuo.train.ranks import Ranks
from luhuo.train.samples import sampler
from luhuo.train.trainer import Trainer

if TYPE_CHECKING:
    from luhuo.align.stages import SftStage


@dataclass(frozen=True)
class Course:
    """What is learned from conversations, and how: by default what they say."""

    objective: SupervisedLM
    held_out: SupervisedLM
    """What held-out conversations are scored by."""
    loader: Callable[..., ConversationLoader] = ConversationLoader
    finish: Callable[[Decoder], None] = lambda model: None
    """Called with the trained model in every process, before it is kept."""
    title: str = "sft"
    told: tuple[str, ...] = ("loss", "tokens_per_s")
    """Metrics of the last step that are results of the stage."""


def fine_tune(
    stage: SftStage,
    out: Workspace,
    device: torch.device,
    note: Callable[[list[Path]], None],
    plan: Callable[[Decoder, Prepared], Course] | None = None,
) -> None:
    """Fine-tune, resuming from the last checkpoint if there is one, and write the result into `out.path`.

    `note` is told the files that are read; `plan` says for a model and its data what is learned, if it is something
    else than plain fine-tuning.
    """
    ranks = Ranks()
    model = open_policy(stage, seed=stage.seed, change=lambda found: _changed(found, stage))
    tokenizer = _tokenizer(model, stage)
    sets = data_sets(stage.data)
    note([file for source in sets for file in source.files])
    with quarantine_file(out.path, main=ranks.main) as quarantine:
        shuffle = stage.seed if stage.shuffle_answers else None
        rules = Rules(stage.length, stage.overlong, stage.turns, stage.plain, shuffle)
        held = list_files(resolve(stage.valid).path) if stage.valid else []
        first_look = FirstLook(tokenizer, stage.length, held) if ranks.main and not stage.plain else None
        prepared = prepare(sets, tokenizer, rules, quarantine=quarantine, watch=first_look)
        kept = None
        if held:
            plainly = Rules(stage.length, stage.overlong, stage.turns, stage.plain)
            kept = prepare([Source(held)], tokenizer, plainly, quarantine=quarantine).store
    if ranks.main:
        announce(prepared, tokenizer)
    if first_look is not None:
        out.results |= first_look.tell()
    model = model.to(device)
    plain = Course(SupervisedLM(stage.neftune), SupervisedLM())
    course = plain if plan is None else plan(model, prepared)
    loader = _loader(stage, prepared, tokenizer, ranks, course.loader)
    config = stage.trainer_config(steps=stage.steps or loader.steps(stage.epochs))
    evaluate = held_out(kept, stage.length, tokenizer.pad_id, course.held_out) if kept else None
    model = spread(model, stage.parallel, pick_dtype(stage.dtype, device))
    sample = sampler(config, stage.seed, chat=not stage.plain)
    trainer = Trainer(
        model, course.objective, loader, config, out, evaluate=evaluate, sample=sample, title=course.title
    )
    metrics = trainer.run()
    course.finish(model)
    finished = whole(model)
    if finished is None:
        return
    keep_policy(finished, out.path)
    trainer.clean()
    out.results |= {name: metrics[name] for name in course.told if name in metrics}
    _report(out, prepared, metrics, config.steps)


def announce(prepared: Prepared, tokenizer: Tokenizer) -> None:
    """Tell what was found: layouts, counts, token statistics, and one example with its mask."""
    for name, layout in prepared.layouts.items():
        say(tr(f"{Path(name).name}: layout “{layout}”", f"{Path(name).name}：格式“{layout}”"))
    say(", ".join(f"{name} {count:,}" for name, count in sorted(prepared.counts.items()) if count))
    lengths = prepared.store.lengths()
    median, longest = int(np.median(lengths)), int(lengths.max())
    share = prepared.supervised / prepared.tokens
    say(
        tr(
            f"{prepared.tokens:,} tokens, {prepared.supervised:,} supervised ({share:.0%}); "
            f"a conversation has {median} (median) to {longest} (longest)",
            f"共 {prepared.tokens:,} 词元，受监督 {prepared.supervised:,}（{share:.0%}）；"
            f"单条中位数 {median}，最长 {longest}",
        )
    )
    if len(prepared.shares) > 1:
        seen = [share.count * share.weight for share in prepared.shares]
        parts = ", ".join(f"{part / sum(seen):.1%}" for part in seen)
        say(
            tr(f"An epoch takes {parts} of its rows from the sets, in their order.", f"一遍中各数据集依次占 {parts}。")
        )
    if prepared.first:
        say(tr("The first conversation; what is learned is marked:", "第一条对话，标出的部分为学习目标："))
        say(preview(prepared.first, tokenizer, colour=sys.stderr.isatty()))


def _changed(model: Decoder, stage: SftStage) -> Decoder:
    """The model with the context, the tokens and the template that are asked for."""
    adapter = stage.adapter
    partial = adapter is not None and not adapter.in_place
    if stage.rope is not None:
        if partial:
            raise _needs_whole("rope")
        model = stretched(model, stage.rope)
    rows = model.config.vocab_size
    new: list[int] = []
    if stage.chatml or stage.chat_template is not None:
        source = None if stage.chatml else resolve(str(stage.chat_template)).path.read_text(encoding="utf-8")
        model = with_template(model, source)
    if stage.new_tokens:
        model, new = with_tokens(model, stage.new_tokens)
    if stage.control is not None:
        model, codes = with_codes(model, stage.control)
        new += codes
    if partial and model.config.vocab_size > rows:
        raise _needs_whole("new_tokens")
    if partial and (new or stage.chatml) and adapter is not None and "embed_tokens" not in adapter.train:
        raise LuhuoError(
            tr(
                "New tokens would neither be trained nor saved with this adapter.",
                "新词元既不会被训练，也不会随此适配器保存。",
            ),
            where="adapter.train",
            fix="adapter: {…, train: [embed_tokens" + ("" if model.config.tie_embeddings else ", lm_head") + "]}",
        )
    return model


def _needs_whole(name: str) -> LuhuoError:
    return LuhuoError(
        tr(
            "This changes the model itself, and an adapter alone could not be loaded on its base any more.",
            "这会改变模型本身，单独的适配器将无法再用于原底座。",
        ),
        where=f"{name}, adapter",
        fix=tr(
            "Leave `adapter` out, or use adapter: {method: full, freeze: […]}; the result is a whole model.",
            "去掉 adapter，或使用 adapter: {method: full, freeze: […]}；结果为完整模型。",
        ),
    )


def _tokenizer(model: Decoder, stage: SftStage) -> Tokenizer:
    if model.tokenizer is None:
        raise LuhuoError(
            tr("The model has no tokenizer.", "该模型没有分词器。"), expected="tokenizer.json", where=stage.model
        )
    if stage.length > model.config.max_positions:
        raise LuhuoError(
            tr("The rows are longer than the model's context.", "打包行长于模型上下文。"),
            expected=f"length <= {model.config.max_positions}",
            found=stage.length,
            where="length",
            fix=tr("Shorten the rows, or stretch the context with `rope`.", "缩短行长，或用 rope 拉长上下文。"),
        )
    return model.tokenizer


def data_sets(given: list[str | DataSet] | str) -> list[Source]:
    """The files of each data set, its weight and its limit."""
    data = given if isinstance(given, list) else [given]
    sets = [DataSet(path=one) if isinstance(one, str) else one for one in data]
    return [Source(list_files(resolve(one.path).path), one.weight, one.limit) for one in sets]


@contextmanager
def quarantine_file(folder: Path, *, main: bool) -> Iterator[Callable[[Broken], None]]:
    """What takes rows that cannot be used: `quarantine.jsonl`, written by the first process."""
    with Path(folder / "quarantine.jsonl" if main else os.devnull).open("w", encoding="utf-8") as handle:

        def quarantine(row: Broken) -> None:
            line = {"source": row.file, "line": row.line, "reason": row.reason, "excerpt": row.excerpt}
            handle.write(json.dumps(line, ensure_ascii=False) + "\n")

        yield quarantine


def _loader(
    stage: SftStage, prepared: Prepared, tokenizer: Tokenizer, ranks: Ranks, make: Callable[..., ConversationLoader]
) -> ConversationLoader:
    """This process's packed batches."""
    shares = prepared.shares if any(share.weight != 1 for share in prepared.shares) else ()
    store, length, seed, pad_id = prepared.store, stage.length, stage.seed, tokenizer.pad_id
    plan = ConversationLoader(store, batch=1, length=length, seed=seed, pad_id=pad_id, shares=shares)
    batch = max(1, min(stage.batch // length, len(plan.rows(0))) // ranks.count)
    return make(
        store,
        batch=batch,
        length=length,
        seed=seed,
        pad_id=pad_id,
        rank=ranks.rank,
        world=ranks.count,
        shares=shares,
        row_seeds=stage.neftune > 0,
    )


def _report(out: Workspace, prepared: Prepared, metrics: dict[str, float], steps: int) -> None:
    out.results |= {
        "steps": steps,
        "tokens": prepared.tokens,
        "supervised_tokens": prepared.supervised,
        "conversations": prepared.counts["used"],
    }
    out.results |= {name: value for name, value in metrics.items() if name.startswith("valid.")}
    for name in ("broken", "no_target", "empty_answer", "too_long", "truncated"):
        out.results[f"rows.{name}"] = prepared.counts[name]
