"""A decoder gone through block by block: read, shown the calibration text, changed, and put on disk before the next.

At no time is more of the model in memory than one block and what stands around the blocks. The states between the
blocks are one tensor over a file, so that the operating system may write them out. What a block has become is kept in
`PARTS`; a walk that was cut off takes finished blocks from there, and only runs the text through them again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from luhuo.compress.inputs import Collector
from luhuo.compress.parts import dense_of, read_notes, read_part, write_part
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.core.memory import give_back
from luhuo.core.progress import Progress
from luhuo.files.references import resolve
from luhuo.model.config import ModelConfig
from luhuo.model.decoder import Decoder
from luhuo.model.factorised import FactorisedWeights, Factors
from luhuo.model.families import fit, read_config
from luhuo.model.families.links import Link
from luhuo.model.layers import Context, Linear
from luhuo.model.load import read_tokenizer, read_values
from luhuo.model.matrices import Kept
from luhuo.model.moe import ExpertMatrices, Experts, grouped_linear, ranges
from luhuo.model.packed import unpacked
from luhuo.model.quantised import Rounded
from luhuo.model.quantised_files import RoundedWeights
from luhuo.model.save import TOKENIZER_KEY
from luhuo.model.weights import SafetensorsWeights, Weights, matched
from luhuo.tokenizer.tokenizer import Tokenizer

PARTS = "parts"
BATCH_TOKENS = 4096
"""Tokens that go through a block at once."""
AFTER = ("norm.", "unembedding.", "embedding_out.", "head_bias", "mtp.")
"""Parameters behind the blocks, which no state depends on."""


class Step:
    """One block, in fp32, with the states that enter it."""

    def __init__(self, walk: Walk, index: int, block: nn.Module) -> None:
        self.index, self.block = index, block
        self._walk = walk
        self.changed: dict[str, Kept] = {}
        """By the name of a parameter in the block, what it has become."""
        self.factors: dict[str, Factors] = {}
        """The same of matrices that have become a product of two."""
        self.notes: dict[str, Any] = {}
        """What a method has to say of this block."""

    @property
    def name(self) -> str:
        """The block's name in the model."""
        return f"blocks.{self.index}"

    @property
    def matrices(self) -> dict[str, Linear]:
        """The block's matrices by their names in it, in the order in which they stand there."""
        return {name: module for name, module in self.block.named_modules() if type(module) is Linear}

    @property
    def expert_matrices(self) -> dict[str, nn.Parameter]:
        """The block's matrices of experts (experts, rows, columns) by their names in it, but for those of families
        that publish them as one tensor, which no layout of few bits has."""
        found = {}
        for name, module in self.block.named_modules():
            for kind in ("gate_up", "down") if type(module) is Experts else ():
                if self._walk.experts(f"{self.name}.{name}.{kind}"):
                    found[f"{name}.{kind}"] = getattr(module, kind)
        return found

    def collect_of_experts(self, name: str, collectors: Mapping[int, Collector]) -> None:
        """Show the inputs of some experts' matrices in parameter `name` to their collectors, over all sequences."""
        owner, _, kind = name.rpartition(".")
        experts, matrices = self.block.get_submodule(owner), self.expert_matrices[name]
        delattr(experts, kind)
        setattr(experts, kind, _Shown(matrices, collectors))
        try:
            for _ in self.forward():
                pass
        finally:
            delattr(experts, kind)
            setattr(experts, kind, matrices)

    def collect(self, collectors: Mapping[str, Sequence[Collector]]) -> None:
        """Show the inputs of these matrices, over all sequences, to their collectors."""
        modules = self.matrices

        def hook(several: Sequence[Collector]) -> Callable[[nn.Module, tuple[Any, ...]], None]:
            def show(module: nn.Module, inputs: tuple[Any, ...]) -> None:
                for collector in several:
                    collector.add(inputs[0].flatten(0, -2))

            return show

        handles = [modules[name].register_forward_pre_hook(hook(several)) for name, several in collectors.items()]
        try:
            for _ in self.forward():
                pass
        finally:
            for handle in handles:
                handle.remove()

    def forward(self) -> Iterator[tuple[Tensor, Tensor]]:
        """States (batch, time, hidden) before and after the block as it is now, some sequences at a time."""
        for rows, context in self._walk.batches():
            before = self._walk.states[rows]
            with torch.no_grad():
                after = self.block(before, context)
            yield before, after

    @torch.no_grad()
    def put(self, name: str, kept: Kept) -> None:
        """Put what a matrix has become in its place; the block then computes with its numbers."""
        self.changed[f"{name}.weight"] = kept
        self.matrices[name].weight.copy_(dense_of(kept.value))

    @torch.no_grad()
    def put_experts(self, name: str, value: Tensor | Rounded) -> None:
        """Put what the matrices of experts have become in their place: (experts, rows, columns), or their rounded
        rows, one expert after the other."""
        matrices = self.expert_matrices[name]
        self.changed[name] = Kept(value)
        matrices.copy_(dense_of(value).view_as(matrices))

    @torch.no_grad()
    def put_factors(self, name: str, factors: Factors) -> None:
        """Put two factors in the place of a matrix; the block then computes with their product."""
        self.factors[f"{name}.weight"] = factors
        self.matrices[name].weight.copy_(factors.dense())

    def keep(self, *parameters: str) -> None:
        """Say that these parameters of the block (norms, biases) were changed in place."""
        self.changed |= {name: Kept(self.block.get_parameter(name).detach()) for name in parameters}


class Walk:
    """Gives a `Step` for each block of the model directory `reference`, and writes down what became of it.

    `sequences` (count, length) int64, or what makes them for its tokenizer, run through it; None: no states are
    computed, for methods that need none.
    `through`: what the next block reads is what the changed block says ("changed"), or what the block said before
    ("original"). `scratch` is the folder for parts and states. Raises `LuhuoError` for a model that is no decoder, or
    that is rounded already.
    """

    def __init__(
        self,
        reference: str | Path,
        sequences: Tensor | Callable[[Tokenizer], Tensor] | None,
        scratch: Path,
        *,
        through: Literal["changed", "original"] = "changed",
        title: str = "compress",
    ) -> None:
        self.scratch, self.through, self.title = scratch, through, title
        self.root = _folder(reference)
        self.values = read_values(self.root)
        self._files = SafetensorsWeights(self.root)
        self.weights: Weights = unpacked(self._files, self.values)
        _check_plain(self.weights, self.root)
        config = read_config(self.values, self.root / "config.json")
        if not isinstance(config, ModelConfig):
            raise LuhuoError(
                tr("Only decoders are compressed block by block.", "只有解码器可以逐块压缩。"),
                found=config.family,
                where=self.root,
            )
        own = {"shared_layers": ()}  # what a method makes of a layer is that layer's own
        self.config: ModelConfig = fit(config, self.weights.shapes()).model_copy(update=own)
        with torch.device("meta"):
            self.model = Decoder(self.config)
        self.links: list[tuple[Link, list[str]]] = matched(self.model, self.config, self.weights)
        self._experts = {link.ours: link.experts for link, _ in self.links if link.experts}
        self.model.tokenizer = read_tokenizer(self.root, self._files.metadata.get(TOKENIZER_KEY))
        self.sequences = sequences if isinstance(sequences, Tensor | None) else sequences(self.tokenizer())
        self._contexts: list[tuple[slice, Context]] = []
        self.states = torch.empty(0)
        """(count, length, hidden) fp32: what enters the block at hand."""
        (scratch / PARTS).mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._files.__exit__(None, None, None)
        for file in self.scratch.glob("*.bin"):
            file.unlink()

    def __iter__(self) -> Iterator[Step]:
        self._enter()
        blocks = list(self.model.blocks)
        with Progress(self.title, len(blocks), unit=tr("blocks", "块")) as progress:
            for index, block in enumerate(blocks):
                self._fill(f"blocks.{index}.")
                step = Step(self, index, block.eval())
                after = self._passed(step) if self.through == "original" else None
                if self.part(index).is_file():
                    for name, kept in read_part(self.part(index)).items():
                        parameter = block.get_parameter(name)
                        parameter.data.copy_(dense_of(kept.value).view_as(parameter))
                else:
                    yield step
                    write_part(self.part(index), step.changed, step.notes, step.factors)
                self.states = self._passed(step, into=self.states) if after is None else after
                block.to_empty(device="meta")
                self._files.release()
                give_back()
                progress.advance(1)

    def experts(self, name: str) -> int | None:
        """How many experts' matrices a parameter of the model holds that are published as matrices."""
        return self._experts.get(name)

    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer. Raises `LuhuoError` if it has none."""
        if self.model.tokenizer is None:
            raise LuhuoError(
                tr(
                    "The model has no tokenizer to read the calibration text with.",
                    "模型没有分词器，无法读取校准文本。",
                ),
                where=self.root,
            )
        return self.model.tokenizer

    def part(self, index: int) -> Path:
        """Where what a block has become is kept."""
        return self.scratch / PARTS / f"{index:05d}.safetensors"

    def batches(self) -> Iterator[tuple[slice, Context]]:
        """Which sequences go through a block at once, and the context they share."""
        yield from self._contexts

    @torch.no_grad()
    def _enter(self) -> None:
        """What the first block is given."""
        if self.sequences is None:
            return
        self._fill("", outside=True)
        count, length = self.sequences.shape
        gate = _Gate()
        blocks, norm = self.model.blocks, self.model.norm
        self.model.blocks, self.model.norm = nn.ModuleList([gate]), None
        self.states = self._buffer("states")
        size = max(1, BATCH_TOKENS // length)
        for start in range(0, count, size):
            rows = slice(start, min(start + size, count))
            self.states[rows] = self.model.hidden(self.sequences[rows])
            assert gate.context is not None
            self._contexts.append((rows, gate.context))
        self.model.to_empty(device="meta")  # the embedding, which nothing asks for any more
        self.model.blocks, self.model.norm = blocks, norm

    def _buffer(self, name: str) -> Tensor:
        assert self.sequences is not None
        shape = (*self.sequences.shape, self.config.hidden_size)
        file = self.scratch / f"{name}.bin"
        return torch.from_file(str(file), shared=True, size=math.prod(shape), dtype=torch.float32).view(shape)

    @torch.no_grad()
    def _passed(self, step: Step, into: Tensor | None = None) -> Tensor:
        """The states behind the block as it is now."""
        if self.sequences is None:
            return self.states
        result = self._buffer(f"after-{step.index % 2}") if into is None else into
        for (rows, _), (_, after) in zip(self._contexts, step.forward(), strict=True):
            result[rows] = after
        return result

    @torch.no_grad()
    def _fill(self, prefix: str, *, outside: bool = False) -> None:
        """Read the parameters with this prefix, or those outside of the blocks that states are made with."""
        for link, names in self.links:
            if outside == link.ours.startswith("blocks.") or not link.ours.startswith(prefix):
                continue
            if outside and link.ours.startswith(AFTER):
                continue
            owner, _, last = link.ours.rpartition(".")
            value = link.join([self.weights.tensor(name) for name in names]).to(torch.float32, copy=True)
            setattr(self.model.get_submodule(owner), last, nn.Parameter(value, requires_grad=False))

    def finished(self) -> dict[str, Kept]:
        """By the names of the model's parameters, what they have become; tensors are mapped, not read."""
        return {
            f"blocks.{index}.{name}": kept
            for index in range(len(self.model.blocks))
            for name, kept in read_part(self.part(index)).items()
        }

    def notes(self) -> list[dict[str, Any]]:
        """What was said of each block."""
        return [read_notes(self.part(index)) for index in range(len(self.model.blocks))]


class _Shown(ExpertMatrices):
    """Stands in the place of experts' matrices and shows their inputs to collectors."""

    def __init__(self, matrices: nn.Parameter, collectors: Mapping[int, Collector]) -> None:
        super().__init__()
        self._matrices, self._collectors = (matrices,), collectors

    def __len__(self) -> int:
        return len(self._matrices[0])

    def grouped(self, x: Tensor, counts: Tensor) -> Tensor:
        for expert, start, end in ranges(counts.tolist()):
            if expert in self._collectors:
                self._collectors[expert].add(x[start:end])
        return grouped_linear(x, self._matrices[0], counts)


class _Gate(nn.Module):
    """Stands in the place of the blocks and keeps the context they would be given."""

    context: Context | None = None

    def forward(self, x: Tensor, context: Context) -> Tensor:
        self.context = context
        return x


def _folder(reference: str | Path) -> Path:
    path = Path(reference)
    path = path if path.exists() else resolve(str(reference)).path
    if path.is_file():
        raise LuhuoError(
            tr("A model directory is needed here.", "这里需要模型目录。"),
            found=path.name,
            where=path,
            fix=f"luhuo export {reference} --to hf --dtype bf16 --out DIR",
        )
    return path


def _check_plain(weights: Weights, root: Path) -> None:
    if isinstance(weights, FactorisedWeights):
        raise LuhuoError(
            tr("The matrices of this model are factorised.", "该模型的矩阵已被分解。"),
            where=root,
            fix=f"luhuo export {root} --to hf --out DIR",
        )
    if isinstance(weights, RoundedWeights):
        raise LuhuoError(
            tr("This model is quantised already.", "该模型已经量化。"),
            found=weights.settings.get("quant_method"),
            where=root,
            fix=tr("Start from the model it was made of.", "请从其原始模型开始。"),
        )
