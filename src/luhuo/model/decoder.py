"""The decoder: token ids to logits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional as F
from torch.nn.attention.flex_attention import BlockMask

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.model.base import LanguageModel
from luhuo.model.block import Block
from luhuo.model.cache import KVCache, Recorder
from luhuo.model.config import ModelConfig, RopeConfig
from luhuo.model.embedding import look_up
from luhuo.model.layers import Context, Linear
from luhuo.model.masks import CausalMasks, branch_positions, causal_mask, document_lengths, document_positions
from luhuo.model.moe import MoE
from luhuo.model.mtp import Prediction
from luhuo.model.norms import make_norm
from luhuo.model.prefix import prefix_positions, prefix_tokens
from luhuo.model.quantised import QuantisedEmbedding, QuantisedLinear
from luhuo.model.query_block import QueryBlock
from luhuo.model.recompute import whole_block
from luhuo.model.records import read_segments, relation_rows
from luhuo.model.reread import is_stale, reread
from luhuo.model.rope import sinusoids, tables
from luhuo.model.scaled_block import ScaledBlock

Rotation = tuple[Tensor, Tensor]
"""Cosines and signed sines."""


class Decoder(LanguageModel):
    """A causal language model. Parameters may be fp32 while it computes in bf16: see `compute_in`."""

    virtual: nn.Module | None
    """Virtual tokens in front of every text: called with the model, gives their keys and values by layer."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        hidden, width = config.hidden_size, config.embedding_size or config.hidden_size
        self.embedding = nn.Parameter(torch.empty(config.vocab_size, width))
        self.embedding_in = Linear(width, hidden) if width != hidden else None
        rows = config.max_positions + config.position_offset
        self.positions = nn.Parameter(torch.empty(rows, hidden)) if config.positions == "learned" else None
        self.relation_bias = None
        if config.record is not None:
            rows = config.record.buckets + config.record.relations
            self.relation_bias = nn.Parameter(torch.empty(rows, config.heads))
        self.embedding_norm = make_norm(config, hidden) if config.embedding_norm else None
        kind = ScaledBlock if config.root_scaled else Block
        self.blocks = nn.ModuleList(kind(config, layer) for layer in range(config.layers))
        if config.query_block:
            self.blocks[-1] = QueryBlock(config, config.layers - 1)
        self.norm = make_norm(config, hidden) if config.final_norm else None
        self.embedding_out = Linear(hidden, width) if width != hidden else None
        self.unembedding = None if config.tie_embeddings else Linear(width, config.vocab_size)
        self.head_bias = nn.Parameter(torch.zeros(config.vocab_size)) if config.head_bias else None
        self.mtp = nn.ModuleList(Prediction(config) for _ in range(config.mtp_layers))
        self.register_module("virtual", None)

    def forward(
        self,
        ids: Tensor,
        *,
        segments: Tensor | None = None,
        positions: Tensor | None = None,
        cache: KVCache | None = None,
    ) -> Tensor:
        """Logits (batch, time, vocab) of `ids` (batch, time) int64; the arguments are those of `hidden`."""
        return self.head(self.hidden(ids, segments=segments, positions=positions, cache=cache))

    def hidden(
        self,
        ids: Tensor,
        *,
        segments: Tensor | None = None,
        positions: Tensor | None = None,
        cache: KVCache | None = None,
        trunks: Tensor | None = None,
    ) -> Tensor:
        """The normalised last hidden states (batch, time, hidden).

        `segments` (batch, time): 0 is padding, equal numbers are one document; attention never crosses documents and
        positions restart in each. With a `cache`, `segments` only says which of the new tokens are padding (on the
        right), and the new tokens stand behind those in the cache. `positions` (batch, time) overrides the positions.
        `trunks` (batch, time): an earlier segment that a token's own goes on from and sees; 0: none (no cache).
        """
        if cache is not None and positions is None and is_stale(self.config, ids, segments, cache):
            return reread(self, ids, segments, cache)
        if cache is not None:
            positions, context = self._cached_context(ids, positions, cache, segments)
        else:
            positions, context = self._context(ids, segments, positions, trunks)
        if self.virtual is not None:
            context = replace(context, ahead=self.virtual(self))
        x = self._entered(self.embedded(ids), positions, segments)
        for block in self.blocks:
            x = whole_block(context.recompute, block, x, context)
        if cache is not None:
            cache.advance(ids.shape[1] if segments is None else (segments != 0).sum(1).tolist())
        return x if self.norm is None else self.norm(x)

    @property
    def ahead(self) -> int:
        """Virtual tokens in front of every text (`luhuo.adapter`)."""
        return 0 if self.virtual is None else int(self.virtual.length)  # type: ignore[arg-type]

    def keys_and_values(self, embedded: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Keys and values (1, K, P, D) by layer of tokens given by their embeddings (1, P, width), from position 0.

        Differentiable. What stands in front of a text is the same for all texts, so it is computed once for them.
        """
        time, recorder = embedded.shape[1], Recorder()
        positions = torch.arange(time, device=embedded.device)[None]
        masks = self._masks(positions, time, segments=None, prefix=None, plain=True)
        scale = self._query_scale(positions)
        context = Context(*self._rope(positions, time), masks, recorder, None, True, scale, positions=positions)
        x = self._entered(embedded.to(self.dtype), positions)
        for block in self.blocks:
            x = block(x, context)
        return recorder.kept

    def head(self, hidden: Tensor) -> Tensor:
        """Logits (…, vocab) of hidden states (…, hidden)."""
        if self.embedding_out is not None:
            hidden = self.embedding_out(hidden)
        table = self.embedding if self.unembedding is None else self.unembedding
        bias = None if self.head_bias is None else self.head_bias.to(hidden.dtype)
        if isinstance(table, QuantisedLinear):
            logits = table(hidden) if bias is None else table(hidden) + bias
        else:
            weight = self.head_weight.to(hidden.dtype)
            logits = F.linear(hidden, F.normalize(weight) if self.config.head_normed else weight, bias)
        if self.config.logit_scale != 1:
            logits = logits * self.config.logit_scale
        cap = self.config.logit_softcap
        return cap * torch.tanh(logits / cap) if cap else logits

    def mtp_hidden(
        self,
        depth: int,
        hidden: Tensor,
        ids: Tensor,
        *,
        segments: Tensor | None = None,
        positions: Tensor | None = None,
        cache: KVCache | None = None,
    ) -> Tensor:
        """Hidden states (batch, time, hidden) of multi-token prediction at `depth`, from 0; `head` gives the logits.

        `hidden` are those of `Decoder.hidden`, or of the depth above; `ids` (batch, time) the tokens depth + 1 places
        further than theirs. `segments` and `positions` are those of the tokens of `hidden`. A `cache` is one of
        `mtp_cache`, of this depth alone.
        """
        if cache is not None:
            positions, context = self._cached_context(ids, positions, cache)
        else:
            positions, context = self._context(ids, segments, positions)
        found = self.mtp[depth](hidden, self._entered(self.embedded(ids), positions), context)
        if cache is not None:
            cache.advance(ids.shape[1] if segments is None else (segments != 0).sum(1).tolist())
        return found

    def mtp_states(self, hidden: Tensor, ids: Tensor, *, segments: Tensor | None = None) -> list[Tensor]:
        """For each depth k = 0 … the hidden states (batch, time - k, hidden) for the token k + 2 places further.

        `hidden` (batch, time, hidden) are those of `Decoder.hidden`, `ids` (batch, time) the tokens that follow
        theirs, `segments` (batch, time) those of theirs. `head` gives the logits. Where a target lies in another
        document than its row's token they mean nothing; they enter no others.
        """
        found = []
        for depth in range(len(self.mtp)):
            time = ids.shape[1] - depth
            of = None if segments is None else segments[:, :time]
            hidden = self.mtp_hidden(depth, hidden[:, :time], ids[:, depth:], segments=of)
            found.append(hidden)
        return found

    def mtp_logits(self, hidden: Tensor, ids: Tensor, *, segments: Tensor | None = None) -> list[Tensor]:
        """Logits (batch, time - k, vocab) of what `mtp_states` gives for each depth k."""
        return [self.head(states) for states in self.mtp_states(hidden, ids, segments=segments)]

    def mtp_cache(self, batch: int, capacity: int = 1) -> KVCache:
        """An empty cache for one depth of multi-token prediction."""
        return KVCache(self.config.model_copy(update={"layers": 1}), batch, capacity, self.dtype, self.device)

    def auxiliary_loss(self, weights: Tensor | None = None) -> Tensor | None:
        """Balancing loss of the last forward pass in training mode, summed over the layers with experts.

        It is the mean over the rows of the batch, or their sum with these `weights` (batch,). Its gradient moves the
        routers; None where the model has no such loss.
        """
        found = [layer.auxiliary for layer in self.expert_layers() if layer.auxiliary is not None]
        if self.config.moe is None or not found:
            return None
        total = torch.stack(found).sum(0)
        return self.config.moe.balance * (total.mean() if weights is None else (total * weights).sum())

    def update_balance(self, speed: float) -> None:
        """Correct the routing of all layers against the load since the last call (DeepSeek-V3, section 2.1.2).

        To be called after each optimiser step; with `torch.distributed` initialised, the loads of all ranks count.
        """
        layers = [layer for layer in self.expert_layers() if layer.load is not None]
        if distributed.is_initialized():
            for layer in layers:
                distributed.all_reduce(layer.load)
        for layer in layers:
            layer.update_balance(speed)

    def expert_load(self) -> Tensor | None:
        """Share of the work each expert got in training mode since the last `update_balance`: (layers, E)."""
        found = [layer.load.float() for layer in self.expert_layers() if layer.load is not None]
        return torch.stack([load / load.sum().clamp(min=1) for load in found]) if found else None

    def expert_layers(self) -> list[MoE]:
        """The layers with experts, in order; those of multi-token prediction last."""
        return [module for module in self.modules() if isinstance(module, MoE)]

    @property
    def head_weight(self) -> Tensor:
        """The output embedding (vocab, hidden); of one kept in few bits a copy."""
        table = self.embedding if self.unembedding is None else self.unembedding
        if isinstance(table, QuantisedLinear):
            return table.dense(self.dtype)
        return table.weight if isinstance(table, Linear) else table

    @property
    def plain_head(self) -> bool:
        """Whether logits are just hidden states times `head_weight`, so that a fused loss may take it from there."""
        config = self.config
        scaled = config.logit_scale != 1 or config.logit_softcap or config.head_normed
        return self.embedding_out is None and self.head_bias is None and not scaled

    def embedded(self, ids: Tensor) -> Tensor:
        """Rows (…, width) of the embedding at `ids` (…), in the activations' dtype."""
        if isinstance(self.embedding, QuantisedEmbedding):
            return self.embedding.look_up(ids).to(self.dtype)
        return look_up(ids, self.embedding, tied=self.unembedding is None).to(self.dtype)

    def _entered(self, x: Tensor, positions: Tensor, segments: Tensor | None = None) -> Tensor:
        """What the first block gets for looked-up embeddings x (B, T, width)."""
        if self.config.embedding_scale != 1:
            x = x * torch.tensor(self.config.embedding_scale, dtype=x.dtype)
        if self.embedding_in is not None:
            x = self.embedding_in(x)
        if self.positions is not None:
            x = x + self._learned(self.positions, positions, segments).to(self.dtype)
        if self.config.positions == "sinusoidal":
            x = x + sinusoids(positions + self.config.position_offset, self.config.hidden_size).to(x.dtype)
        return x if self.embedding_norm is None else self.embedding_norm(x)

    def _learned(self, table: Tensor, positions: Tensor, segments: Tensor | None) -> Tensor:
        """Rows of a table for `positions` (B or 1, T); padding that lies beyond its end takes the last."""
        places = positions + self.config.position_offset
        if int(places.max()) >= len(table):
            beyond = places >= len(table)
            if bool((beyond if segments is None else beyond & (segments != 0)).any()):
                raise LuhuoError(
                    tr("The text is longer than the model has positions for.", "文本超出模型的位置数。"),
                    expected=f"≤ {self.config.max_positions}",
                    found=int(positions.max()) + 1,
                    fix=tr("Shorten the text.", "请缩短文本。"),
                )
            places = places.clamp(max=len(table) - 1)
        return F.embedding(places, table)

    def _query_scale(self, positions: Tensor) -> Tensor | None:
        """Factors (B or 1, 1, T, 1) on the queries at `positions` (B or 1, T), for `config.log_scale`."""
        border = self.config.log_scale
        if not border:
            return None
        longer = (positions + 1).float().log() / math.log(border)
        return longer.clamp(min=1)[:, None, :, None].to(self.dtype)

    def _context(
        self, ids: Tensor, segments: Tensor | None, positions: Tensor | None, trunks: Tensor | None = None
    ) -> tuple[Tensor, Context]:
        time, config = ids.shape[1], self.config
        if trunks is not None:
            assert segments is not None and positions is None
            positions = branch_positions(config, segments, trunks)
        if segments is not None and not bool((segments != segments[:, :1]).any()):
            segments = None
        number, prefix = self._prompt(ids, segments)
        if positions is None and config.rope.axes == 2 and prefix is not None:
            positions = prefix_positions(ids, segments, prefix, config.gap_ids)
        elif positions is None:
            one = torch.arange(time, device=ids.device)[None]
            positions = one if segments is None else document_positions(segments)
        positions = positions + self.ahead
        slots = torch.arange(time, device=ids.device)[None]
        masks = self._masks(
            slots, time, segments=segments, prefix=prefix, plain=segments is None, number=number, trunks=trunks
        )
        lengths = document_lengths(positions, segments) if config.rope.by_length else time
        real = None if segments is None else segments != 0
        scale = self._query_scale(positions)
        return positions, Context(
            *self._rope(positions, lengths),
            masks,
            None,
            real,
            prefix is None,
            scale,
            positions=positions,
            recompute=self.recomputed,
        )

    def _cached_context(
        self, ids: Tensor, positions: Tensor | None, cache: KVCache, segments: Tensor | None = None
    ) -> tuple[Tensor, Context]:
        time, before, config = ids.shape[1], cache.longest, self.config
        cache.reserve(before + time)
        cache.remember(ids)
        slots = torch.arange(time, device=ids.device)[None]
        slots = before + slots if cache.even else cache.starts()[:, None] + slots
        prefix, number, lengths = None, None, before + time
        reads_prompt = config.prefix_end is not None or config.record is not None
        if config.rope.by_length or reads_prompt:
            lengths = cache.starts()[:, None] + (time if segments is None else (segments != 0).sum(1)[:, None])
        if reads_prompt and cache.ids is not None:
            known = cache.ids[:, : before + time]
            real = torch.arange(before + time, device=ids.device) < lengths
            number, prefix = self._prompt(known, real.int())
            assert prefix is not None
            prefix = prefix & real
            if positions is None and config.rope.axes == 2:
                positions = prefix_positions(known, real.int(), prefix, config.gap_ids)
                positions = positions.gather(1, slots[..., None].expand(len(ids), -1, 2))
        if time == 1:
            prefix = None  # one token sees all before it anyway
        plain = before == 0 or (cache.even and time == 1)
        masks = self._masks(slots, before + time, segments=None, prefix=prefix, plain=plain, number=number)
        positions = (slots if positions is None else positions) + self.ahead
        scale = self._query_scale(positions)
        return positions, Context(
            *self._rope(positions, lengths), masks, cache, None, prefix is None, scale, positions=positions
        )

    def _prompt(self, ids: Tensor, segments: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        """The segment of each token in its record, and which are of a prompt that sees itself, both (B, T).

        None where the model knows no such thing.
        """
        if self.config.record is not None:
            return read_segments(ids, segments, self.config.record)
        end = self.config.prefix_end
        return None, None if end is None else prefix_tokens(ids, segments, end)

    def _masks(
        self,
        queries: Tensor,
        slots: int,
        *,
        segments: Tensor | None,
        prefix: Tensor | None,
        plain: bool,
        number: Tensor | None = None,
        trunks: Tensor | None = None,
    ) -> Mapping[int, Tensor | BlockMask | None]:
        """A mask for each window of the model; None where causality alone (`plain`) says it all.

        With the `number` (B, S) of each token's segment in a record, it holds the biases by relation.
        """
        if number is not None and self.config.record is not None and self.relation_bias is not None:
            rows = relation_rows(number, queries, self.config.record)
            bias = F.embedding(rows, self.relation_bias).permute(0, 3, 1, 2).to(self.dtype)
            return {0: bias + causal_mask(queries, slots, self.dtype, segments=segments, prefix=prefix)}
        return CausalMasks(
            queries,
            slots,
            self.dtype,
            segments=segments,
            slopes=self.config.alibi_slopes,
            prefix=prefix,
            plain=plain and (not self.ahead or queries.shape[1] == 1),
            windows=self.config.windows,
            trunks=trunks,
            blocks=self.in_blocks and self.training and not (self.config.attention_sinks or self.config.linear_layers),
        )

    def _rope(self, positions: Tensor, lengths: Tensor | int) -> tuple[Rotation | None, Rotation | None]:
        """Tables of the model's rotary positions, and of those of its windowed layers where they have their own."""
        config = self.config
        if config.positions != "rope":
            return None, None

        def of(rope: RopeConfig) -> Rotation:
            return tables(rope, rope.dim or config.rope_dim, positions, lengths, config.max_positions, self.dtype)

        return of(config.rope), None if config.local_rope is None else of(config.local_rope)
