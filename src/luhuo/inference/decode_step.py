"""A few tokens through a plain decoder in one call of compiled code (native/step.cpp): one a row, or whole prompts.

Decoding one token reads every weight once and computes little else; going through a model's modules costs a third of a
millisecond a layer in Python and PyTorch alone. A decoder is plain if its config differs from the defaults in nothing
but what is listed in `PLAIN`; all others, and other devices, go through their modules as before.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from itertools import accumulate

import torch
from torch import Tensor, nn

from luhuo.inference.multi_lora import Updates
from luhuo.kernels.low_bit import FORMS, NUMBERS, Matrix, describe_dense
from luhuo.kernels.native import library
from luhuo.kernels.native.build import processor
from luhuo.model.block import Block
from luhuo.model.cache import KVCache
from luhuo.model.cache_formats import INT4
from luhuo.model.config import ModelConfig, RopeConfig
from luhuo.model.decoder import Decoder
from luhuo.model.eight_bit import EightBitLinear
from luhuo.model.factorised import FactorisedLinear
from luhuo.model.kept_linear import KeptLinear
from luhuo.model.layers import MLP, Attention, Linear
from luhuo.model.norms import RMSNorm
from luhuo.model.quantised import QuantisedEmbedding, QuantisedLinear
from luhuo.model.rope import tables
from luhuo.model.sparse import SparseLinear

MOST_TOKENS = {torch.float32: 192 if "avx512f" in processor() else 16, torch.bfloat16: 320}
"""Tokens up to which this is the faster way, by the format computed in: products of more are PyTorch's."""
MOST_ROWS = MOST_TOKENS | {torch.bfloat16: 512}
"""The same for one token a row: each looks at the slots of its own row alone, PyTorch at the widest row's for all."""
LONGEST = 1024
"""Slots that the tokens of a prompt may look at: each does so by itself here, PyTorch lets them look together."""
KINDS = (Linear, QuantisedLinear, EightBitLinear, SparseLinear)
"""Matrices that the compiled step multiplies by."""
FEW = {torch.int8: 4, INT4: 5}
"""Formats of a cache in few bits, by their numbers in native/cache.h."""
EVERY = 32
"""Steps of the same requests after which the model is looked at whole."""
TABLE = 512
"""Positions whose cosines and sines are computed at a time."""

PLAIN = {
    "family", "vocab_size", "hidden_size", "layers", "heads", "kv_heads", "head_dim", "intermediate_size", "rope",
    "max_positions", "stop_ids", "pad_id", "bos_id", "norm_eps", "tie_embeddings", "qkv_bias", "out_bias", "mlp_bias",
    "qk_norm", "attention_scale", "mtp_layers", "shared_layers",
}  # fmt: skip
"""Fields of a config that may have any value; all others must have their defaults."""
PLAIN_ROPE = {
    "theta", "kind", "factor", "original_positions", "low_factor", "high_factor", "beta_fast", "beta_slow", "truncate",
    "attention_factor", "mscale", "mscale_all_dim",
}  # fmt: skip


class _Update(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("a", "b")),
        *((name, ctypes.c_int64) for name in ("rank", "number")),
    )


class _Layer(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("attention_norm", "mlp_norm", "query_norm", "key_norm")),
        *((name, ctypes.c_int64) for name in ("norm_number", "head_stride")),
        *((name, Matrix) for name in ("qkv", "out", "gate_up", "down")),
        *((name, _Update) for name in ("on_qkv", "on_out", "on_gate_up", "on_down")),
        *((name, Matrix) for name in ("qkv_in", "out_in", "gate_up_in", "down_in")),
    )


class _Cache(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("keys", "values")),
        *((name, ctypes.c_int64) for name in ("number", "row_stride", "head_stride", "slot_stride")),
        *((name, ctypes.c_void_p) for name in ("key_scales", "value_scales")),
        *((name, ctypes.c_int64) for name in ("key_scale_count", "value_scale_count", "widened")),
    )


class _Tokens(ctypes.Structure):
    _fields_ = (
        ("count", ctypes.c_int64),
        *((name, ctypes.c_void_p) for name in ("ids", "rows", "slots", "cos", "sin", "adapters")),
        ("chosen_count", ctypes.c_int64),
        ("chosen", ctypes.c_void_p),
    )


class _Stack(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int64) for name in ("layers", "hidden", "inner", "heads", "kv_heads", "size")),
        *((name, ctypes.c_float) for name in ("eps", "scale")),
        ("norm", ctypes.c_void_p),
        ("norm_number", ctypes.c_int64),
        ("blocks", ctypes.c_void_p),
        ("table", Matrix),
        ("head", Matrix),
        ("number", ctypes.c_int64),
    )


def is_plain(config: ModelConfig) -> bool:
    """Whether decoders of this config are what the compiled step computes."""
    ours = ModelConfig(**{name: getattr(config, name) for name in PLAIN})
    rope = RopeConfig(**{name: getattr(config.rope, name) for name in PLAIN_ROPE})
    return (
        config == ours and config.rope == rope and not rope.by_length and config.qk_norm in ("none", "head", "heads")
    )


class DecodeStep:
    """The compiled step of one model. Weights are used where they are: a change of them in place is seen."""

    def __init__(self, model: Decoder) -> None:
        self._model = model
        self._cos = self._sin = torch.empty(0, model.config.head_dim)
        self._owners: list[tuple[dict, str]] = []
        self._modules: list[nn.Module | None] = []
        self._tensors: list[tuple[dict, str]] = []
        self._places: list[int] = [-1]
        self._held: list[Tensor] = []
        self._ends: tuple[int, ...] = ()
        self._steps = 0
        self._kept: tuple[list[int], ctypes.Array[_Cache] | None] = ([], None)
        self._table: _Stack | None = None

    @staticmethod
    def of(model: Decoder) -> DecodeStep | None:
        """The step of a plain decoder on a CPU with compiled kernels, otherwise None."""
        kept = {parameter.dtype for parameter in model.parameters()} | {model.dtype}
        plain = is_plain(model.config) and model.device.type == "cpu" and len(kept) == 1 and kept <= FORMS.keys()
        return DecodeStep(model) if plain and library() is not None else None

    @property
    def most(self) -> int:
        """How many tokens of prompts a step reads at most."""
        return MOST_TOKENS.get(self._model.dtype, 0)

    def fits(self, cache: KVCache, tokens: int | None = None, longest: int = 1, *, going_on: bool = False) -> bool:
        """Whether a step with this cache can be taken, the model being what it is now. To be asked before each.

        `tokens`: how many come (one a row); `longest`: 1, or the length of the longest row that gets several of them;
        `going_on`: the same requests as in the step before get their next tokens, and none has an adapter: then the
        model is looked at whole in every `EVERY`th step alone.
        """
        tokens = cache.batch if tokens is None else tokens
        known = type(cache) is KVCache and cache.stored in (*FORMS, *FEW)
        # Of a cache in few bits each token would widen the whole row by itself.
        short = longest == 1 or (longest <= LONGEST and cache.stored in FORMS)
        most = (MOST_ROWS if longest == 1 else MOST_TOKENS).get(self._model.dtype, 0)
        return known and short and 0 < tokens <= most and self._is_known(going_on)

    def __call__(self, ids: Tensor, cache: KVCache) -> Tensor:
        """Logits (batch, vocab) fp32 behind one more token `ids` (batch,) int64 of each row, which grow by it."""
        return self.read(range(cache.batch), [[token] for token in ids.tolist()], cache)

    def read(
        self,
        rows: Sequence[int],
        texts: Sequence[Sequence[int]],
        cache: KVCache,
        adapters: Sequence[int] = (),
        *,
        every: bool = False,
    ) -> Tensor:
        """Logits (rows, vocab) fp32 behind `texts`, one or more new tokens of each of these rows, which grow by them.

        With `every`, behind each of the tokens: (tokens, vocab). `adapters` are the rows' slots in `MultiLora`.
        """
        found, config = library(), self._model.config
        assert found is not None
        ends = [cache.lengths[row] + len(text) for row, text in zip(rows, texts, strict=True)]
        cache.reserve(max(ends))
        self._turn(max(ends))
        # Plain lists: a call of PyTorch costs more than all of them, and there would be twenty.
        ids = [token for text in texts for token in text]
        if not 0 <= min(ids) <= max(ids) < config.vocab_size:
            raise IndexError(f"a token that the model does not have: {min(ids)} … {max(ids)} of {config.vocab_size}")
        slots = [slot for text, end in zip(texts, ends, strict=True) for slot in range(end - len(text), end)]
        chosen = range(len(ids)) if every else [count - 1 for count in accumulate(map(len, texts))]
        numbers = [_array(part) for part in (ids, _spread(rows, texts), slots, chosen)]
        adapted = _array(_spread(adapters, texts)) if any(adapters) else None
        tokens = _Tokens(
            len(ids),
            *map(ctypes.addressof, numbers[:3]),
            self._cos.data_ptr(),
            self._sin.data_ptr(),
            None if adapted is None else ctypes.addressof(adapted),
            len(chosen),
            ctypes.addressof(numbers[3]),
        )
        logits = torch.empty(len(chosen), config.vocab_size)
        kept, stack = self._caches(cache), self._table
        assert stack is not None, "fits was not asked"
        found.decode_step(*map(ctypes.addressof, (stack, kept, tokens)), logits.data_ptr())
        for row, text in zip(rows, texts, strict=True):
            cache.lengths[row] += len(text)
        return logits

    def _caches(self, cache: KVCache) -> ctypes.Array[_Cache]:
        """The table of a cache's layers, made anew if the cache grew or is another one."""
        shape = cache.keys[0].shape
        places = [*shape, *(tensor.data_ptr() for tensors in cache.lists for tensor in tensors)]
        before, table = self._kept
        if table is None or places != before:
            table = _kept(cache)
            self._kept = places, table
        return table

    def _turn(self, longest: int) -> None:
        """Have cosines and sines of so many positions, rounded as the model rounds them."""
        if longest <= len(self._cos):
            return
        config, count = self._model.config, -(-longest // TABLE) * TABLE
        both = tables(
            config.rope, config.head_dim, torch.arange(count), count, config.max_positions, self._model.dtype
        )
        self._cos, self._sin = (part.squeeze(-2).float().contiguous() for part in both)

    def _is_known(self, going_on: bool) -> bool:
        """Whether there is a table of the model as it is; not if matrices were replaced by something else.

        Looking at some thousand entries takes a tenth of a short step, because their memory went to make room for
        weights. In between, what the table points to is kept from being freed, and the model's ends are looked at.
        """
        self._steps += 1
        if not (going_on and self._table is not None and self._steps < EVERY and self._ends == _ends(self._model)):
            self._steps, self._ends = 0, _ends(self._model)
            self._compare()
        return self._table is not None

    def _compare(self) -> None:
        """Make the table anew if a tensor moved or a module is another one."""
        if [holder.get(name) for holder, name in self._owners] != self._modules or [
            0 if (tensor := holder.get(name)) is None else tensor.data_ptr() for holder, name in self._tensors
        ] != self._places:
            self._look()

    def _look(self) -> None:
        """Find all modules and tensors, and describe them. Walking through a model takes as long as a short step."""
        owners = list(self._model.modules())
        self._owners = [(one._modules, name) for one in owners for name in one._modules]
        self._modules = [holder[name] for holder, name in self._owners]
        held = [part for one in owners for part in (one._parameters, one._buffers)]
        self._tensors = [(part, name) for part in held for name in part]
        self._places = [_place(part[name]) for part, name in self._tensors]
        self._held = [part[name].detach() for part, name in self._tensors if part[name] is not None]
        self._table = None
        if not self._model.ahead and all(_is_alone(matrix) for matrix in _matrices(self._model)):
            self._blocks, self._table = _describe(self._model)


def _ends(model: Decoder) -> tuple[int, ...]:
    """Where the first and the last tensors of a model lie."""
    first = model.embedding
    last = None if model.norm is None else model.norm.weight
    table = first if isinstance(first, Tensor) else next(first.buffers())
    return table.data_ptr(), last.data_ptr() if isinstance(last, Tensor) else 0


def _array(numbers: Sequence[int]) -> ctypes.Array[ctypes.c_int64]:
    return (ctypes.c_int64 * len(numbers))(*numbers)


def _spread(values: Sequence[int], texts: Sequence[Sequence[int]]) -> list[int]:
    """The value of each text, once for each of its tokens."""
    return [value for value, text in zip(values, texts, strict=True) for _ in text]


def _place(tensor: Tensor | None) -> int:
    """Where a tensor lies; 0 for one that is not there, such as a bias that may come."""
    return 0 if tensor is None else tensor.data_ptr()


def _describe(model: Decoder) -> tuple[ctypes.Array[_Layer], _Stack]:
    config = model.config
    blocks = (_Layer * config.layers)(*(_layer(block) for block in model.blocks))
    assert isinstance(model.norm, RMSNorm)
    return blocks, _Stack(
        layers=config.layers,
        hidden=config.hidden_size,
        inner=config.intermediate_size,
        heads=config.heads,
        kv_heads=config.kv_heads,
        size=config.head_dim,
        eps=config.norm_eps,
        scale=config.attention_scale or config.head_dim**-0.5,
        norm=model.norm.weight.data_ptr(),
        norm_number=NUMBERS[model.norm.weight.dtype],
        blocks=ctypes.addressof(blocks),
        table=_table(model.embedding),
        head=_table(model.embedding) if model.unembedding is None else _matrix(model.unembedding),
        number=NUMBERS[model.dtype],
    )


def _table(embedding: Tensor | QuantisedEmbedding) -> Matrix:
    return describe_dense(embedding) if isinstance(embedding, Tensor) else embedding.describe()


def _parts(block: nn.Module) -> tuple[Block, Attention, MLP]:
    assert isinstance(block, Block) and isinstance(block.attention, Attention) and isinstance(block.mlp, MLP)
    return block, block.attention, block.mlp


def _matrices(model: Decoder) -> Iterator[nn.Module]:
    for _, attention, mlp in map(_parts, model.blocks):
        yield from (attention.qkv, attention.out, mlp.gate_up, mlp.down)
    if model.unembedding is not None:
        yield model.unembedding


def _is_alone(matrix: nn.Module) -> bool:
    """Whether a matrix is what it looks like: no kind of its own, not rounded for training, no adapter on it but those
    of single rows."""
    adapter, rounding = (getattr(matrix, name, None) for name in ("adapter", "rounding"))
    if isinstance(matrix, FactorisedLinear):
        return adapter is None and rounding is None and _is_alone(matrix.a) and _is_alone(matrix.b)
    return type(matrix) in KINDS and isinstance(adapter, Updates | None) and rounding is None


def _layer(module: nn.Module) -> _Layer:
    block, attention, mlp = _parts(module)
    norms = [block.attention_norm, block.mlp_norm, attention.q_norm, attention.k_norm]
    return _Layer(
        *(norm.weight.data_ptr() if isinstance(norm, RMSNorm) else None for norm in norms),
        NUMBERS[next(block.attention_norm.parameters()).dtype],
        attention.config.head_dim if attention.config.qk_norm == "heads" else 0,
        *map(_matrix, (attention.qkv, attention.out, mlp.gate_up, mlp.down)),
        *map(_update, (attention.qkv, attention.out, mlp.gate_up, mlp.down)),
        *map(_first, (attention.qkv, attention.out, mlp.gate_up, mlp.down)),
    )


def _first(module: nn.Module) -> Matrix:
    """The first factor of a matrix that is kept as two; of no rows for another."""
    return _matrix(module.a) if isinstance(module, FactorisedLinear) else Matrix()


def _matrix(module: object) -> Matrix:
    if isinstance(module, FactorisedLinear):
        return _matrix(module.b)
    if isinstance(module, KeptLinear):
        return module.describe()
    assert isinstance(module, Linear)
    return describe_dense(module.weight, module.bias)


def _update(module: nn.Module) -> _Update:
    """What adapters add to a matrix; of rank 0 where none does."""
    updates = module._modules["adapter"]
    if not isinstance(updates, Updates):
        return _Update(None, None, 0, 0)
    return _Update(updates.a.data_ptr(), updates.b.data_ptr(), updates.a.shape[1], NUMBERS[updates.a.dtype])


def _kept(cache: KVCache) -> ctypes.Array[_Cache]:
    number = FEW[cache.stored] if cache.stored in FEW else NUMBERS[cache.stored]
    table = (_Cache * len(cache.keys))()
    for layer, (keys, values) in enumerate(zip(cache.keys, cache.values, strict=True)):
        table[layer] = _Cache(keys.data_ptr(), values.data_ptr(), number, *keys.stride()[:3])
        if cache.stored in FEW:
            scales = cache.key_scales[layer], cache.value_scales[layer]
            table[layer].key_scales, table[layer].value_scales = (part.data_ptr() for part in scales)
            table[layer].key_scale_count, table[layer].value_scale_count = (part.shape[-1] for part in scales)
            table[layer].widened = NUMBERS[cache.dtype]
    return table
