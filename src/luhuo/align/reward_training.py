"""What the stage `reward` does around the training loop: opening, normalising, saving and measuring."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from luhuo.adapter.attach import attach
from luhuo.adapter.config import AdapterConfig
from luhuo.align.reward_baselines import BASELINES, baseline_leads
from luhuo.align.reward_data import Comparison, Kind, RewardData, conversation_text
from luhuo.align.reward_files import head_names, open_with_head, save_reward_model
from luhuo.align.reward_measures import against, judge, leads, score
from luhuo.align.reward_model import AnyRewardModel
from luhuo.align.reward_objective import PairwiseReward, PointwiseReward, ProcessReward, RewardObjective
from luhuo.core.artifact import Workspace
from luhuo.core.atomic import write_json
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.core.progress import say
from luhuo.dialogue.layouts import read_conversations
from luhuo.files.readers import list_files
from luhuo.files.references import resolve

if TYPE_CHECKING:
    from luhuo.align.reward_stage import RewardStage

NORMALISED_ON = 1000
"""Answers whose scores give mean and deviation, at most."""


def local_files(references: Sequence[str]) -> list[Path]:
    """The files of paths, folders, globs and references."""
    return [file for reference in references for file in list_files(resolve(reference).path)]


def check_kinds(data: RewardData, test: RewardData | None, stage: RewardStage) -> None:
    """Raise `LuhuoError` if what is held out is judged in another way than what is learned from."""
    if test is not None and test.kind != data.kind:
        raise LuhuoError(
            tr("Training and test data are of different kinds.", "训练与测试数据的类型不同。"),
            expected=data.kind,
            found=test.kind,
            where=stage.test,
        )


def announce(data: RewardData, test: RewardData | None) -> None:
    """Tell what was found: layouts, what happened to the rows, tokens."""
    for part in (data, test):
        if part is None:
            continue
        layouts = ", ".join(f"{Path(name).name}: {layout}" for name, layout in part.layouts.items())
        counts = ", ".join(f"{name} {count:,}" for name, count in sorted(part.counts.items()))
        tokens = part.lengths()
        middle, longest = int(np.median(tokens)), tokens.max()
        say(
            tr(
                f"{layouts}; {counts}; {part.tokens:,} tokens, {middle} (median) to {longest} each",
                f"{layouts}；{counts}；共 {part.tokens:,} 词元，每条中位数 {middle}，最长 {longest}",
            )
        )


def open_model(stage: RewardStage) -> AnyRewardModel:
    """The model of a stage in fp32 on the CPU, with a head. Raises `LuhuoError` without a tokenizer, or for rows
    longer than its context."""
    chosen = stage.adapter
    model = open_with_head(stage.model, "fp32" if chosen is None else chosen.base, stage.seed)
    if chosen is not None:
        _adapt(model, chosen, stage)
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
        )
    return model


def _adapt(model: AnyRewardModel, chosen: AdapterConfig, stage: RewardStage) -> None:
    """Put a fresh adapter on the model; the head is trained whole beside it."""
    divided = {name: getattr(stage.parallel, name) for name in ("fsdp", "tp", "ep")}
    if any(count != 1 for count in divided.values()):
        raise LuhuoError(
            tr("An adapter is trained on whole copies of the model.", "适配器只能在完整的模型副本上训练。"),
            expected="parallel: {dp: …}",
            found=divided,
        )
    if chosen.path is not None:
        raise LuhuoError(
            tr("A reward model begins with a fresh adapter.", "奖励模型从新的适配器开始。"),
            found=chosen.path,
            where="adapter.path",
            fix=tr("Name the adapter's directory as the model: it is merged.", "请将适配器目录作为 model：会先合并。"),
        )
    attach(model, chosen, stage.seed).base = stage.model
    parameters = dict(model.named_parameters())
    for name in head_names(model):
        parameters[name].requires_grad_(True)


def objective(kind: Kind, centre: float) -> RewardObjective:
    """The loss of a kind of judgements."""
    if kind == "pairwise":
        return PairwiseReward(centre)
    return ProcessReward() if kind == "process" else PointwiseReward(kind)


def settle(model: AnyRewardModel, stage: RewardStage, data: RewardData, out: Workspace) -> float:
    """Give good answers mean 0 and deviation 1 where only differences were learned, and write the model; returns what
    a unit of the scores was in training, where a lead of 1 meant odds of e."""
    tokenizer, unit = model.tokenizer, 1.0
    assert tokenizer is not None
    if data.kind == "pairwise":
        texts = _conversations(stage, tokenizer) if stage.normalise else [_best(item) for item in data.items]
        chosen = np.random.default_rng(stage.seed).permutation(len(texts))[:NORMALISED_ON]
        found = np.concatenate(score(model, [texts[i] for i in chosen], pad_id=tokenizer.pad_id))
        mean, deviation = float(found.mean()), float(found.std())
        if len(found) > 1 and deviation > 0:
            model.normalise(mean, deviation)
            unit = deviation
        out.results |= {"normalised.mean": mean, "normalised.deviation": deviation, "normalised.n": len(found)}
    save_reward_model(model, out.path)
    return unit


def _best(item: Comparison) -> Comparison:
    """The text of a comparison that wins most."""
    wins = np.bincount([better for better, _, _ in item.pairs], minlength=len(item.ids))
    best = int(wins.argmax())
    return Comparison((item.ids[best],), (item.answers[best],))


def _conversations(stage: RewardStage, tokenizer: Any) -> list[Comparison]:
    assert stage.normalise is not None
    found = list[Comparison]()
    for file in list_files(resolve(stage.normalise).path):
        for conversation in read_conversations(file)[1]:
            ids, answer = conversation_text(conversation, tokenizer)
            if answer and len(ids) <= stage.length + 1:
                found.append(Comparison((ids,), (answer,)))
    if not found:
        raise LuhuoError(tr("There is no answer to normalise on.", "没有可用于归一化的回答。"), where=stage.normalise)
    return found


def report(
    model: AnyRewardModel,
    stage: RewardStage,
    data: RewardData,
    test: RewardData | None,
    out: Workspace,
    unit: float,
) -> None:
    """Measure on held-out judgements: `reward.json`, the scores of each in `scores.jsonl` (of a pair the better text's
    first), and the headlines for the manifest. `unit` is that of `settle`."""
    if test is None:
        return
    assert model.tokenizer is not None
    scores = score(model, test.items, pad_id=model.tokenizer.pad_id)
    told = {"kind": test.kind, **judge(test.items, test.kind, [unit * mine for mine in scores])}
    if test.kind == "pairwise":
        right = leads(test.items, scores) > 0
        told["baselines"] = {}
        for name, features in BASELINES.items():
            other = baseline_leads(data.items, test.items, features) > 0
            judged = {"accuracy": float(other.mean()), "model": against(right, other, stage.seed)}
            told["baselines"][name] = judged
    write_json(out.path / "reward.json", told)
    with (out.path / "scores.jsonl").open("w", encoding="utf-8") as handle:
        for number, (item, mine) in enumerate(zip(test.items, scores, strict=True)):
            line = {"number": number, **item.meta, "scores": [round(float(value), 5) for value in mine]}
            handle.write(json.dumps(line, ensure_ascii=False) + "\n")
    out.results |= headline(told)
    say(_sentence(told))


def headline(told: dict[str, Any]) -> dict[str, Any]:
    """The figures of `reward.json` that the manifest holds, under flat names."""
    found = {name: told[name] for name in ("accuracy", "low", "high", "n", "error") if name in told}
    if "calibration" in told:
        found["ece"] = told["calibration"]["ece"]
    for name, share in told.get("by", {}).get("defect", {}).items():
        found[f"accuracy.{name}"] = share["accuracy"]
    for name, other in told.get("baselines", {}).items():
        found |= {f"baseline.{name}": other["accuracy"], f"over.{name}": other["model"]["difference"]}
    for name, value in told.get("length", {}).items():
        found[f"length.{name}"] = value["r"]
    return {f"test.{name}": value for name, value in found.items()}


def _sentence(told: dict[str, Any]) -> str:
    if "accuracy" not in told:
        return tr(
            f"held-out: root mean square error {told['error']:.3f} over {told['n']} texts",
            f"留出集：{told['n']} 条文本的均方根误差 {told['error']:.3f}",
        )
    line = tr(
        f"held-out accuracy {told['accuracy']:.1%} ({told['low']:.1%} to {told['high']:.1%}, n {told['n']}), "
        f"calibration error {told['calibration']['ece']:.3f}",
        f"留出集准确率 {told['accuracy']:.1%}（{told['low']:.1%} 至 {told['high']:.1%}，n {told['n']}），"
        f"校准误差 {told['calibration']['ece']:.3f}",
    )
    others = ", ".join(f"{name} {other['accuracy']:.1%}" for name, other in told.get("baselines", {}).items())
    return line + (tr(f"; baselines: {others}", f"；基线：{others}") if others else "")
