"""Reward models: a language model that gives one number for how good a text is (Ouyang et al. 2022, section 3.5).

The number is read where the text ends: at the last real token of each segment, wherever padding lies and however many
texts share a row. An encoder is read as its head for whole texts does (first token or mean). Directories have the
layout of Hugging Face's `…ForSequenceClassification` with one label (`reward_files.py`).
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.core.seeds import derive_seed
from luhuo.model.config import ModelConfig
from luhuo.model.decoder import Decoder
from luhuo.model.encoder import Encoder
from luhuo.model.encoder_config import EncoderConfig
from luhuo.model.encoder_decoder import EncoderDecoder
from luhuo.model.encoder_heads import TextLabels
from luhuo.model.layers import Linear
from luhuo.model.save import Model
from luhuo.train.objective import Batch

LABEL = "reward"
"""Name of the one class in `config.json`."""


class RewardModel(Decoder):
    """A decoder with a scalar head in the place of its output matrix.

    `offset` is added to every score, so that the scores of good texts have mean 0 (`normalise`).
    """

    def __init__(self, config: ModelConfig) -> None:
        # Tied: no output matrix is kept that nothing reads.
        super().__init__(config.model_copy(update={"tie_embeddings": True, "head_bias": False, "mtp_layers": 0}))
        self.score = Linear(config.hidden_size, 1)
        self.offset = 0.0

    def scores(self, batch: Batch) -> Tensor:
        """Scores (rows, sequences) fp32 of the segments 1, 2, … of each row; 0 where a row has no such segment.

        `ids` (rows, time) and, optionally, `segments` like it: 0 padding, equal numbers one text.
        """
        segments = _segments(batch)
        last = ends(segments)[1]
        states = gathered(self.hidden(batch["ids"], segments=segments), last)
        return torch.where(last >= 0, self.read(states), 0.0)

    def token_scores(self, batch: Batch) -> Tensor:
        """Scores (rows, time) fp32 of each text up to each of its tokens: for steps of reasoning, and for critics."""
        return self.read(self.hidden(batch["ids"], segments=_segments(batch)))

    def read(self, hidden: Tensor) -> Tensor:
        """Scores (…) fp32 of states (…, hidden)."""
        return F.linear(hidden.float(), self.score.weight.float())[..., 0] + self.offset

    def normalise(self, mean: float, deviation: float) -> None:
        """Shift and scale so that scores with this mean and standard deviation get 0 and 1 (Ziegler et al. 2019,
        section 2.1). The gain goes into the head, which has no bias: the rest is `offset`."""
        with torch.no_grad():
            self.score.weight.div_(deviation)
        self.offset = (self.offset - mean) / deviation


class RewardEncoder(Encoder):
    """An encoder whose head for whole texts has one label."""

    def scores(self, batch: Batch) -> Tensor:
        """As `RewardModel.scores`; each text is pooled by itself, as the head does with a row."""
        segments = _segments(batch)
        first, last = ends(segments)
        hidden = self.hidden(batch["ids"], segments=segments)
        mean = self.config.pooling == "mean"
        states = means(hidden, segments, last.shape[1]) if mean else gathered(hidden, first)
        return torch.where(last >= 0, self.read(states), 0.0)

    def token_scores(self, batch: Batch) -> Tensor:
        """Scores (rows, time) fp32 of each token: for steps of reasoning."""
        return self.read(self.hidden(batch["ids"], segments=_segments(batch)))

    def read(self, hidden: Tensor) -> Tensor:
        """Scores (…) fp32 of pooled states (…, hidden)."""
        head = self._head
        return head.out(head.transform(hidden))[..., 0].float()

    def normalise(self, mean: float, deviation: float) -> None:
        """As `RewardModel.normalise`; this head has a bias, which takes the shift."""
        out = self._head.out
        with torch.no_grad():
            out.weight.div_(deviation)
            out.bias.sub_(mean).div_(deviation)

    @property
    def _head(self) -> Any:
        return cast(Any, self.text_labels)


AnyRewardModel = RewardModel | RewardEncoder


def with_head(model: Model, seed: int) -> AnyRewardModel:
    """A reward model over the parameters of `model` (they are the same tensors), with a new head.

    The head begins with standard deviation 1 / √(hidden + 1) (Huang et al. 2024, "The N+ Implementation Details",
    detail 11): scores of unit size. Raises `LuhuoError` for an encoder-decoder, and for decoders with a projection
    behind their states, which no published classification layout has.
    """
    if isinstance(model, RewardModel | RewardEncoder):
        return model
    if isinstance(model, EncoderDecoder) or (isinstance(model, Decoder) and model.embedding_out is not None):
        raise LuhuoError(
            tr("A reward model is a decoder or an encoder.", "奖励模型须为解码器或编码器。"),
            expected=tr("a decoder without an output projection, or an encoder", "不带输出投影的解码器，或编码器"),
            found=f"{type(model).__name__} ({model.config.family})",
        )
    with torch.device("meta"):
        result = RewardModel(model.config) if isinstance(model, Decoder) else RewardEncoder(_labelled(model.config))
    _take_over(result, model)
    chance = torch.Generator().manual_seed(derive_seed(seed, "reward head"))
    for name, parameter in list(result.named_parameters()):
        if parameter.is_meta:
            fresh = _initial(name, parameter.shape, chance).to(model.device, _kept_in(model))
            owner, _, last = name.rpartition(".")
            setattr(result.get_submodule(owner), last, nn.Parameter(fresh))
    result.tokenizer = model.tokenizer
    return result.compute_in(model.dtype).train(model.training)


def _take_over(result: nn.Module, model: nn.Module) -> None:
    """Put the parts of `model` in the places of `result` that are for them: modules as they are, whatever they keep
    their weights in; of a head for texts what fits one label."""
    for name, parameter in model._parameters.items():
        if result._parameters.get(name) is not None:
            result._parameters[name] = parameter
    for name, module in model._modules.items():
        place = result._modules.get(name)
        if name == "text_labels" and module is not None:
            assert place is not None
            _take_transform(cast(Any, place), cast(Any, module))
        elif place is not None and name != "mtp":
            result._modules[name] = module
        elif name in result._parameters and module is not None:  # an embedding kept in few bits
            del result._parameters[name]
            result._modules[name] = module


def _take_transform(place: TextLabels, head: TextLabels) -> None:
    """Keep the dense layer in front of the labels, where the two heads have the same, and a last layer of one row."""
    shapes = [{name: p.shape for name, p in one.transform.named_parameters()} for one in (place, head)]
    if shapes[0] == shapes[1]:
        place.transform = head.transform
    if head.out is not None and place.out is not None and head.out.weight.shape == place.out.weight.shape:
        place.out = head.out  # one number already: a reward model, or what was trained as a score


def _kept_in(model: Model) -> torch.dtype:
    """What new parameters are kept in: as the norms are, where matrices are kept in few bits."""
    return next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)


def _labelled(config: EncoderConfig) -> EncoderConfig:
    return config.model_copy(update={"head": "classification", "labels": (LABEL,), "pooler": False, "sentence": None})


def _initial(name: str, shape: torch.Size, chance: torch.Generator) -> Tensor:
    """The start of a new parameter: the head's own row, or a part of an encoder's head that the model did not have."""
    if name in ("score.weight", "text_labels.out.weight"):
        return torch.randn(shape, generator=chance) / (shape[1] + 1) ** 0.5
    if len(shape) == 1:
        return torch.ones(shape) if name.endswith("norm.weight") else torch.zeros(shape)
    return torch.randn(shape, generator=chance) * 0.02


def _segments(batch: Batch) -> Tensor:
    segments = batch.get("segments")
    return torch.ones_like(batch["ids"], dtype=torch.int32) if segments is None else segments


def ends(segments: Tensor) -> tuple[Tensor, Tensor]:
    """Places of the first and last token of each segment, both (rows, sequences); -1 where there is no such one."""
    rows, time = segments.shape
    count = int(segments.max())
    place = torch.arange(time, device=segments.device).expand(rows, time)
    first = torch.full((rows, count + 1), time, device=segments.device)
    last = torch.full((rows, count + 1), -1, device=segments.device)
    first = first.scatter_reduce(1, segments.long(), place, "amin")[:, 1:]
    last = last.scatter_reduce(1, segments.long(), place, "amax")[:, 1:]
    return torch.where(last >= 0, first, -1), last


def gathered(hidden: Tensor, places: Tensor) -> Tensor:
    """States (rows, sequences, hidden) at `places` (rows, sequences) of hidden (rows, time, hidden)."""
    rows = torch.arange(len(hidden), device=hidden.device)[:, None]
    return hidden[rows, places.clamp(min=0)]


def means(hidden: Tensor, segments: Tensor, count: int) -> Tensor:
    """Mean state (rows, sequences, hidden) of each of `count` segments; zeros where there is no such segment."""
    belongs = F.one_hot(segments.long(), count + 1)[..., 1:].to(hidden.dtype)  # (rows, time, sequences)
    return belongs.mT @ hidden / belongs.sum(1)[..., None].clamp(min=1)
