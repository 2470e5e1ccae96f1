"""CPM-Bee as its published description and preprocessing describe it, one record and one pair of tokens at a time."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.reference_models import Reference
from tests.reference_models.parts import heads_of, rms

ROOT = ()
"""A segment is named by the way to it from the root: (), (entry,) for a name, (entry, "value") for its value."""


def matrix(columns: int, rows: int) -> nn.Linear:
    """A matrix with entries of about size one."""
    layer = nn.Linear(columns, rows, bias=False)
    nn.init.normal_(layer.weight)
    return layer


def scaled(layer: nn.Linear, x: Tensor) -> Tensor:
    """Products are divided by the root of the number of inputs."""
    return layer(x) / math.sqrt(x.shape[-1])


class Weight(nn.Module):
    """A module with one weight."""

    def __init__(self, *size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(*size))


class CpmBee(Reference):
    """Every token of a record is of a segment; its prompt sees itself, its answer what stands before."""

    def __init__(self, values: dict[str, Any]) -> None:
        super().__init__({"architectures": ["CpmBeeForCausalLM"], "model_type": "cpmbee", **values})
        width, heads, inner = values["hidden_size"], values["num_attention_heads"], values["dim_ff"]
        size = heads * values["dim_head"]
        rows = values["position_bias_num_buckets"] + values["position_bias_num_segment_buckets"]
        model: Any = nn.Module()
        model.input_embedding = nn.Embedding(values["vocab_size"], width)
        model.position_bias = nn.Module()
        model.position_bias.relative_attention_bias = nn.Parameter(torch.randn(rows, heads))
        model.encoder = nn.Module()
        model.encoder.layers = nn.ModuleList()
        for no_attention, no_feeding in self._pruned():
            layer: Any = nn.Module()
            if not no_attention:
                layer.self_att = nn.Module()
                layer.self_att.layernorm_before_attention = Weight(width)
                layer.self_att.self_attention = nn.ModuleDict({f"project_{n}": matrix(width, size) for n in "qkv"})
                layer.self_att.self_attention["attention_out"] = matrix(size, width)
            if not no_feeding:
                layer.ffn = nn.Module()
                layer.ffn.layernorm_before_ffn = Weight(width)
                both = nn.ModuleDict({"w_0": matrix(width, inner), "w_1": matrix(width, inner)})
                layer.ffn.ffn = nn.ModuleDict({"w_in": both, "w_out": matrix(inner, width)})
            model.encoder.layers.append(layer)
        model.encoder.output_layernorm = Weight(width)
        self.cpmbee = model

    def _pruned(self) -> list[list[bool]]:
        return self.values["mask_modules"] or [[False, False]] * self.values["num_hidden_layers"]

    def logits(self, ids: Tensor) -> Tensor:
        """One row after the other. No placeholder is numbered, so that no embedding is turned."""
        return torch.stack([self._row(row) for row in ids])

    def _row(self, ids: Tensor) -> Tensor:
        eps, model = self.values["eps"], self.cpmbee
        table = model.input_embedding.weight
        x = table[ids] / math.sqrt(table.shape[1])
        bias = self._bias(ids.tolist())
        for layer, (no_attention, no_feeding) in zip(model.encoder.layers, self._pruned(), strict=True):
            if not no_attention:
                y = rms(x, layer.self_att.layernorm_before_attention.weight, eps)
                x = (x + self._attention(layer.self_att.self_attention, y, bias)) / 1.05
            if not no_feeding:
                part = layer.ffn.ffn
                y = rms(x, layer.ffn.layernorm_before_ffn.weight, eps)
                y = F.gelu(scaled(part["w_in"]["w_0"], y)) * scaled(part["w_in"]["w_1"], y)
                x = (x + scaled(part["w_out"], y)) / 1.05
        x = rms(x, model.encoder.output_layernorm.weight, eps)
        return x / math.sqrt(table.shape[1]) @ table.T

    def _attention(self, part: Any, x: Tensor, bias: Tensor) -> Tensor:
        heads = self.values["num_attention_heads"]
        query, key, value = (heads_of(scaled(part[f"project_{n}"], x)[None], heads)[0] for n in "qkv")
        scores = query @ key.mT / math.sqrt(self.values["dim_head"]) + bias
        return scaled(part["attention_out"], (scores.softmax(-1) @ value).transpose(0, 1).flatten(1))

    def _bias(self, tokens: list[int]) -> Tensor:
        """What is added to the scores (heads, time, time): minus infinity where a token may not look."""
        values, table = self.values, self.cpmbee.position_bias.relative_attention_bias
        begin, answer = values.get("bos_token_id", 6), values.get("ans_token_id", 9)
        paths = _paths(tokens, begin)
        context = _context(tokens, paths, answer)
        rows = []
        for i, here in enumerate(paths):
            for j, there in enumerate(paths):
                if not (context[j] or (not context[i] and j <= i)):
                    rows.append(torch.full((table.shape[1],), -math.inf))
                elif here == there:
                    rows.append(table[self._bucket(j - i)])
                else:
                    common = next(n for n in (2, 1, 0) if here[:n] == there[:n] and min(len(here), len(there)) >= n)
                    up, down = len(here) - common, len(there) - common
                    relation = 8 * up + down + 1  # relation 0 is the own segment, 1 other samples
                    rows.append(table[values["position_bias_num_buckets"] - 1 + relation])
        return torch.stack(rows).view(len(tokens), len(tokens), -1).permute(2, 0, 1)

    def _bucket(self, distance: int) -> int:
        """A quarter of the buckets for small distances each way, a quarter grows up to the longest."""
        half = self.values["position_bias_num_buckets"] // 2
        exact, size = half // 2, abs(distance)
        if size >= exact:
            ratio = math.log(size / exact) / math.log(self.values["position_bias_max_distance"] / exact)
            size = min(exact + int(ratio * (half - exact)), half - 1)
        return size + (half if distance > 0 else 0)


def _paths(tokens: list[int], begin: int) -> list[tuple[Any, ...]]:
    """The segment of each token: the root, then by turns a name and its value."""
    order = [ROOT, *((entry, "value")[:depth] for entry in range(len(tokens)) for depth in (1, 2))]
    found, place = [], -(tokens[0] == begin)
    for token in tokens:
        place += token == begin
        found.append(order[place])
    return found


def _context(tokens: list[int], paths: list[tuple[Any, ...]], answer: int) -> list[bool]:
    """Whether each token is given: all up to the segment that names the answer, if there is one."""
    if answer not in tokens:
        return [False] * len(tokens)
    named = paths[tokens.index(answer)]
    last = max(index for index, path in enumerate(paths) if path == named)
    return [index <= last for index in range(len(tokens))]
