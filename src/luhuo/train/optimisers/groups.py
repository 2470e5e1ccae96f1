"""The groups parameters fall into, and what an optimiser does with each.

| group     | parameters                                                | weight decay | learning rate      |
| --------- | --------------------------------------------------------- | ------------ | ------------------ |
| matrices  | dense layers in the blocks, stacks of experts' ones       | yes          | `learning_rate`    |
| routers   | routers, gates of shared experts                          | no           | `learning_rate`    |
| embedding | embeddings, tables of positions, types, distances         | no           | · `embedding_rate` |
| head      | unembedding, last layers for labels                       | no           | · `embedding_rate` |
| vectors   | norms, biases, sinks                                      | no           | · `embedding_rate` |
| steps     | logarithms of learned scales of rounded matrices          | no           | · `step_rate`      |

Tied embeddings are in `embedding`. A router's rows are one vector for each expert, like an embedding's: they are not
orthogonalised. `muon`, `adamw8` and `lion8` serve the matrices alone; everything else is then AdamW's (Lion's), in
full precision.

What belongs to an adapter is in the groups that its method names, and moved by AdamW (Lion): orthogonalised, a factor
of rank 16 would take steps of one size in directions that matter and in those that do not.

With `base_width` the rates of `matrices`, `head` and tied embeddings are multiplied by (base_width / width)^x, so that
one step changes activations equally much at every width (Yang and Hu 2021, "Tensor Programs IV"): `transfer`
says with which x; docs/optimisers.md shows what was measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor, nn

from luhuo.adapter.attach import attached
from luhuo.core.language import tr
from luhuo.model.config import ModelConfig
from luhuo.train.config import TrainerConfig

ROUTERS = ("router", "shared_gate")
TABLES = ("embedding", "embedding_in", "projection", "positions", "types", "distances", "queries")
HEADS = ("unembedding.weight", "embedding_out.weight", "labels.out.weight", "score.weight")

STEP = ".rounding.step"
"""How the names of learned scales end (`train.quantisation`)."""

NAMES = ("embedding", "head", "vectors", "routers", "steps", "matrices")

FOR_REST = {"muon": "adamw", "adamw8": "adamw", "lion8": "lion"}
"""The rule of what is no matrix, where it is another."""


@dataclass(frozen=True)
class Group:
    """Parameters that are treated alike."""

    name: str
    parameters: dict[str, nn.Parameter]
    rule: str
    """Name of the optimiser that moves them."""
    rate: float
    """Peak learning rate."""
    decay: float
    """Decoupled weight decay; each step takes `decay` times its learning rate."""
    why: str

    @property
    def count(self) -> int:
        """How many numbers, those of other processes included."""
        return sum(p.numel() for p in self.parameters.values())


def sort_parameters(model: nn.Module) -> dict[str, dict[str, nn.Parameter]]:
    """The model's own trainable parameters by the name of their group; asserts hold that each is in one and only one.
    Those of an adapter are not among them."""
    adapter = attached(model)
    apart = set() if adapter is None else {id(p) for p in adapter.own().values()}
    named = {name: p for name, p in model.named_parameters() if p.requires_grad and id(p) not in apart}
    found: dict[str, dict[str, nn.Parameter]] = {name: {} for name in NAMES}
    for name, p in named.items():
        found[_group_of(name, p)][name] = p
    placed = [name for members in found.values() for name in members]
    assert len(placed) == len(set(placed)), "a parameter belongs to two groups"
    assert set(placed) == named.keys(), "a parameter belongs to no group"
    return found


def group(model: nn.Module, config: TrainerConfig) -> list[Group]:
    """The groups that have parameters, with what `config` says about each."""
    transferred = transfer(model, config)
    rate, raised = config.learning_rate, config.learning_rate * config.embedding_rate
    rest = FOR_REST.get(config.optimiser, config.optimiser)
    steps = rate * (config.quantisation.step_rate if config.quantisation else 1.0)
    table = {
        "embedding": (rest, raised, 0.0, tr("rows are seen rarely: larger steps", "每行少见：步子更大")),
        "head": (rest, raised, 0.0, tr("one row a token, like an embedding", "每词元一行，同嵌入")),
        "vectors": (rest, raised, 0.0, tr("a scale must not shrink to nothing", "缩放量不宜衰减")),
        "routers": (rest, rate, 0.0, tr("one row an expert; decay would even them out", "每专家一行；衰减会抹平")),
        "steps": (rest, steps, 0.0, tr("logarithms: a step is a share of the scale", "对数：一步即按比例改变缩放")),
        "matrices": (config.optimiser, rate, config.weight_decay, tr("learning_rate itself", "即 learning_rate")),
    }
    members, found = sort_parameters(model), _adapter_groups(model, config, rest)
    adapter = attached(model)
    for name in NAMES:
        rule, peak, decay, why = table[name]
        if adapter is not None:
            rule = rule if adapter.orthogonal else rest
            decay = decay if adapter.decays else 0.0
        if name in transferred:
            factor, told = transferred[name]
            peak, why = peak * factor, f"{why}; {told}"
        if members[name]:
            found.append(Group(name, members[name], rule, peak, decay, why))
    return _by_part(found, getattr(model, "part_rates", {}))


def _by_part(groups: list[Group], rates: Mapping[str, float]) -> list[Group]:
    """The groups, cut where a part of the model has a learning rate of its own (`LanguageModel.part_rates`)."""
    found = []
    for each in groups:
        rest = dict(each.parameters)
        for prefix, factor in rates.items():
            mine = {name: rest.pop(name) for name in list(rest) if name.startswith(prefix)}
            if mine:
                name, why = f"{prefix}{each.name}", f"{each.why}; · {factor:g}"
                found.append(replace(each, name=name, parameters=mine, rate=each.rate * factor, why=why))
        if rest:
            found.append(replace(each, parameters=rest))
    return found


def _adapter_groups(model: nn.Module, config: TrainerConfig, rule: str) -> list[Group]:
    """The groups of the model's adapter; parameters have the names they have in `model`."""
    adapter = attached(model)
    if adapter is None:
        return []
    names = {id(p): name for name, p in model.named_parameters()}
    return [
        Group(
            each.name,
            {names[id(p)]: p for p in each.parameters.values()},
            rule,
            config.learning_rate * each.rate,
            config.weight_decay if each.decays else 0.0,
            each.why,
        )
        for each in adapter.groups()
        if each.parameters
    ]


def transfer(model: nn.Module, config: TrainerConfig) -> dict[str, tuple[float, str]]:
    """By group: the factor on its learning rate for this model's width, and how it comes about.

    A sign-like update of n x n numbers (AdamW, Lion, Adafactor) agrees with what flows through and adds up over n: x
    is 1. Muon's is orthogonal: with `muon_scale` rms its largest singular value grows with √n, x is 0.5; with spectral
    it does not grow, x is 0. Rows of an output layer are as long as the width: x is 1, and 0.5 where the same rows are
    also the input.
    """
    shape = getattr(model, "config", None)
    width = getattr(getattr(shape, "decoder", shape), "hidden_size", 0)
    if not config.base_width or not width:
        return {}
    matrices = {"muon": 0.0 if config.muon_scale == "spectral" else 0.5}.get(config.optimiser, 1.0)
    exponents = {"matrices": matrices, "head": 1.0}
    if getattr(shape, "tie_embeddings", True):
        exponents["embedding"] = 0.5
    ratio = config.base_width / width
    return {name: (ratio**x, f"· ({config.base_width}/{width})^{x:g}") for name, x in exponents.items() if x}


def _group_of(name: str, parameter: Tensor) -> str:
    kind = kind_of(name)
    if name.endswith(STEP):
        return "steps"
    if parameter.ndim == 1 or kind.endswith(("norm", "bias")):
        return "vectors"
    if kind in ROUTERS:
        return "routers"
    if name.endswith(HEADS):
        return "head"
    return "embedding" if kind in TABLES else "matrices"


def kind_of(name: str) -> str:
    """What a parameter is called in its layer: `blocks.0.attention.out.weight` is an `out`."""
    return name.removesuffix(".weight").rsplit(".", 1)[-1]


def is_kernel(name: str, parameter: Tensor) -> bool:
    """Whether three dimensions are a convolution's (outputs, inputs, width), not a stack of experts' matrices."""
    return parameter.ndim == 3 and kind_of(name) not in ("gate_up", "down")


def fused_rows(model: nn.Module) -> dict[str, Sequence[int]]:
    """Rows of the matrices that share a parameter, by its kind; those that are halves are not listed."""
    config = getattr(model, "config", None)
    if not isinstance(config, ModelConfig):
        return {}
    rows: dict[str, Sequence[int]] = {"qkv": config.qkv_rows}
    if config.mla:
        rows["kv_down"] = (config.mla.kv_rank, config.mla.rope_dim)
    return rows


def parts(name: str, parameter: Tensor, fused: Mapping[str, Sequence[int]]) -> tuple[int, ...]:
    """Rows of each matrix inside a parameter: query, key, value, gate and up are matrices of their own."""
    kind, rows = kind_of(name), parameter.shape[0] if is_kernel(name, parameter) else parameter.shape[-2]
    if kind in fused:
        return tuple(fused[kind])
    pieces = {"gate_up": 2, "key_value": 2, "qkv": 3, "linear_qkv": 3}.get(kind, 1)
    return (rows // pieces,) * pieces
