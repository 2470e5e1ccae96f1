"""Pruning whole layers, features, heads and channels: a walk for each, and a smaller dense model directory.

Layers go first, then features, then heads and channels of each block, which are chosen and refitted on what the blocks
before them have become. What is not the result lies in the stage's scratch folder.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from luhuo.adapter.open import open_decoder
from luhuo.compress.calibration import drawn
from luhuo.compress.inputs import Magnitudes, SecondMoment
from luhuo.compress.prune.depth import SAMPLE, Influence, by_influence, by_loss, contiguous
from luhuo.compress.prune.heads import choose_heads, columns_of
from luhuo.compress.prune.memory import check_room
from luhuo.compress.prune.parts import Parts
from luhuo.compress.prune.refit import refit
from luhuo.compress.prune.shape import Wanted, wanted
from luhuo.compress.prune.width import Features, choose_channels
from luhuo.compress.prune.write import write_smaller
from luhuo.compress.walk import Step, Walk
from luhuo.core.atomic import write_json
from luhuo.core.language import tr
from luhuo.model.config import ModelConfig
from luhuo.model.count import parameters
from luhuo.model.matrices import Kept

if TYPE_CHECKING:
    from luhuo.compress.prune.stages import PruneStage
    from luhuo.core.artifact import Workspace

SCRATCH = ".walk"
READERS = ("attention.qkv", "mlp.gate_up", "mlp.up")
"""Matrices that read the residual stream."""


def prune_structures(stage: PruneStage, out: Workspace) -> None:
    """Write the smaller model directory and `report.json`: what stays of layers, features, heads and channels."""
    scratch = out.path / SCRATCH
    with Walk(stage.model, None, scratch / "whole") as walk:
        whole = walk.config
        target = wanted(stage, whole)
        _sized(whole, target)
    work = _Work(stage, target, whole, scratch)
    if target.layers < whole.layers:
        work.drop_layers()
    if target.hidden_size < whole.hidden_size:
        work.drop_features()
    if (target.heads, target.intermediate_size) != (whole.heads, whole.intermediate_size):
        work.thin_blocks()
    for file in Path(work.reference).iterdir():
        file.rename(out.path / file.name)
    shutil.rmtree(scratch)
    write_json(out.path / "report.json", work.report)
    before, after = (sum(parameters(config).values()) for config in (whole, work.config))
    out.results |= {"parameters_before": before, "parameters": after, "left": after / before}


def _sized(whole: ModelConfig, target: Wanted) -> None:
    """Raise `LuhuoError` before any work if the family cannot describe the smaller model."""
    heads = torch.arange(target.kv_heads)[:, None] * (whole.heads // whole.kv_heads)
    heads = (heads + torch.arange(target.heads // target.kv_heads)).flatten()
    Parts(
        range(target.layers),
        torch.arange(target.hidden_size) if target.hidden_size < whole.hidden_size else None,
        {0: heads} if target.heads < whole.heads else {},
        {0: torch.arange(target.intermediate_size)} if target.intermediate_size < whole.intermediate_size else {},
    ).config(whole)


class _Work:
    """The model as it is so far, and what has been done to it."""

    def __init__(self, stage: PruneStage, target: Wanted, whole: ModelConfig, scratch: Path) -> None:
        self.stage, self.target, self.config, self.scratch = stage, target, whole, scratch
        self.reference = stage.model
        self.report: dict[str, Any] = {}

    def drop_layers(self) -> None:
        """Choose the layers that stay, and write the model without the others."""
        wanted = self.target.layers
        with self._walk("depth", tr("layers", "层")) as walk:
            if self.stage.depth == "loss":
                kept = by_loss(_loss_of(self.reference, walk), walk.config.layers, wanted)
            else:
                influence, states = _through(walk)
                self.report["influence"] = influence
                kept = (
                    by_influence(influence, wanted) if self.stage.depth == "influence" else contiguous(states, wanted)
                )
            self.report["layers"] = kept
            self._write(walk, Parts(kept), "shallow")

    def drop_features(self) -> None:
        """Choose the features of the residual stream that stay, and write the model without the others."""
        features = Features(self.config.hidden_size)
        with self._walk("width", tr("features", "特征")) as walk:
            for step in walk:
                seen = {name: Magnitudes(self.config.hidden_size) for name in step.matrices if name in READERS}
                step.collect({name: [one] for name, one in seen.items()})
                for name, one in seen.items():
                    features.add(step.matrices[name].weight, one.squares)
            kept = features.choose(self.target.hidden_size)
            self.report["features"] = kept.tolist()
            self._write(walk, Parts(range(self.config.layers), kept), "narrow")

    def thin_blocks(self) -> None:
        """Choose heads and channels in each block, fit the others anew, and write the model without them."""
        with self._walk("blocks", tr("heads and channels", "头与通道")) as walk:
            for step in walk:
                if self.target.heads < self.config.heads:
                    self._thin_heads(step)
                if self.target.intermediate_size < self.config.intermediate_size:
                    self._thin_channels(step)
            notes = walk.notes()
            found = {
                kind: {layer: torch.tensor(note[kind]) for layer, note in enumerate(notes) if kind in note}
                for kind in ("heads", "channels")
            }
            self.report |= {kind: [part.tolist() for part in found[kind].values()] for kind in found if found[kind]}
            parts = Parts(range(self.config.layers), None, found["heads"], found["channels"])
            self._write(walk, parts, "thin", walk.finished())

    def _thin_heads(self, step: Step) -> None:
        config, target = self.config, self.target
        moment = _moment(step, "attention.out")
        out = step.matrices["attention.out"].weight
        heads = choose_heads(out, moment, config.heads, config.kv_heads, target.heads, target.kv_heads)
        step.notes["heads"] = heads.tolist()
        self._put(step, "attention.out", moment, columns_of(heads, config.head_dim))

    def _thin_channels(self, step: Step) -> None:
        moment = _moment(step, "mlp.down")
        channels = choose_channels(step.matrices["mlp.down"].weight, moment, self.target.intermediate_size)
        step.notes["channels"] = channels.tolist()
        self._put(step, "mlp.down", moment, channels)

    def _put(self, step: Step, name: str, moment: Tensor, kept: Tensor) -> None:
        """Zeros in the columns that go, so that the block computes what it will without them; the others refitted."""
        weight = step.matrices[name].weight.detach()
        if self.stage.refit:
            changed = refit(weight, moment, kept)
        else:
            changed = torch.zeros_like(weight)
            changed[:, kept] = weight[:, kept]
        step.put(name, Kept(changed))

    def _walk(self, name: str, title: str) -> Walk:
        stage = self.stage
        folder = self.scratch / name
        if name != "blocks":  # what was only measured is not kept, so that a run that was cut off measures again
            shutil.rmtree(folder, ignore_errors=True)
        walk = Walk(self.reference, drawn(stage), folder, title=f"prune: {title}")
        check_room(walk, "structured", whole=name == "depth" and stage.depth == "loss")
        return walk

    def _write(self, walk: Walk, parts: Parts, name: str, changed: dict[str, Kept] | None = None) -> None:
        self.config = write_smaller(walk, parts, self.scratch / name, changed or {})
        self.reference = str(self.scratch / name)


def _moment(step: Step, name: str) -> Tensor:
    collector = SecondMoment(step.matrices[name].weight.shape[1])
    step.collect({name: [collector]})
    return collector.moment


def _through(walk: Walk) -> tuple[list[float], list[Tensor]]:
    """The influence of each layer, and the states of some tokens in front of each and behind the last."""
    influence, states, last = [], [], torch.empty(0)
    for step in walk:
        one, before_some, after_some = Influence(), [], []
        assert walk.sequences is not None
        stride = max(1, walk.sequences.numel() // SAMPLE)
        for before, after in step.forward():
            one.add(before, after)
            before_some.append(before.flatten(0, 1)[::stride].clone())
            after_some.append(after.flatten(0, 1)[::stride])
        influence.append(one.value)
        states.append(torch.cat(before_some))
        last = torch.cat(after_some)
    return influence, [*states, last]


def _loss_of(reference: str, walk: Walk) -> Callable[[Sequence[int]], float]:
    """The loss on the walk's sequences of the model with some of its layers only. The whole model is in memory."""
    model = open_decoder(reference, dtype="fp32", device="cpu")
    ids, blocks = walk.sequences, list(model.blocks)
    assert ids is not None

    @torch.no_grad()
    def loss(layers: Sequence[int]) -> float:
        model.blocks = torch.nn.ModuleList(blocks[layer] for layer in layers)
        total = 0.0
        for row in ids.split(max(1, 4096 // ids.shape[1])):
            logits = model(row[:, :-1])
            total += float(F.cross_entropy(logits.flatten(0, 1), row[:, 1:].flatten(), reduction="sum"))
        return total / ids[:, 1:].numel()

    return loss
