"""What a decoder of a given shape costs: parameters, operations and cache, without building it."""

from __future__ import annotations

from luhuo.model.config import ModelConfig


def parameters(config: ModelConfig) -> dict[str, int]:
    """Number of parameters by part; the values add up to the model's total."""
    hidden, layers = config.hidden_size, config.layers
    sparse = [config.sparse(layer) for layer in range(layers)]
    width = config.embedding_size or hidden
    ends = config.final_norm + config.embedding_norm + config.query_block
    parts = {
        "embedding": config.vocab_size * width + (hidden * width if width != hidden else 0),
        "positions": _positions(config),
        "queries": config.max_positions * hidden if config.query_block else 0,
        "attention": sum(_attention(config, layer) for layer in range(layers)),
        "mlp": (sparse.count(False) - len(config.no_mlp)) * _mlp(config, config.intermediate_size, config.mlp_bias),
        "experts": sparse.count(True) * _experts(config),
        "norms": sum(_block_norms(config, layer) for layer in range(layers)) + _norm(config, hidden) * ends,
        "mtp": config.mtp_layers * (_block(config, layers - 1) + 2 * hidden * hidden + 3 * _norm(config, hidden)),
        "head": (0 if config.tie_embeddings else config.vocab_size * width)
        + (hidden * width if width != hidden else 0)
        + (config.vocab_size if config.head_bias else 0),
    }
    parts["shared"] = -sum(_block(config, i) for i, source in enumerate(config.shared_layers) if source != i)
    return {name: count for name, count in parts.items() if count}


def active_parameters(config: ModelConfig) -> int:
    """Parameters that take part in one token: all but the experts it is not sent to, and multi-token prediction."""
    total = sum(count for name, count in parameters(_unshared(config)).items() if name != "mtp")
    if config.moe is None:
        return total
    idle = config.moe.experts - config.moe.active
    sparse = sum(config.sparse(layer) for layer in range(config.layers))
    return total - sparse * idle * _mlp(config, config.moe.intermediate_size, config.moe.expert_bias)


def _unshared(config: ModelConfig) -> ModelConfig:
    """The config of a model that computes as much, each layer with weights of its own."""
    return config.model_copy(update={"shared_layers": ()})


def flops_per_token(config: ModelConfig, length: int) -> int:
    """Floating-point operations of forward and backward for one token of a causal sequence of `length` tokens.

    Six per active matrix parameter (the output embedding included, the lookup not) and 12 · heads · head_dim per
    visible key and layer, of which there are length / 2 on average (Kaplan et al. 2020, appendix B); fewer where a
    window is shorter. Each depth of multi-token prediction is one more layer, its merging matrix and the output
    embedding again.
    """
    if config.mtp_layers:
        depths, width = config.mtp_layers, config.hidden_size
        deeper = config.model_copy(update={"layers": config.layers + depths, "mtp_layers": 0})
        again = 2 * width * width + config.vocab_size * (config.embedding_size or width)
        return flops_per_token(deeper, length) + 6 * depths * again
    parts = parameters(_unshared(config))
    outside = sum(parts.get(name, 0) for name in ("embedding", "positions", "queries", "norms", "head"))
    matrices = active_parameters(config) - outside
    matrices += config.vocab_size * (config.embedding_size or config.hidden_size)
    per_key = 6 * config.heads * (config.head_dim + config.value_dim)
    attending = (layer for layer in range(config.layers) if layer not in config.no_attention)
    seen = sum(_seen(config.window(layer), length) for layer in attending)
    return 6 * matrices + round(per_key * seen)


def cache_per_token(config: ModelConfig) -> int:
    """Numbers that all layers together cache of one token."""
    return sum(heads * features for widths in config.layer_widths for heads, features in widths)


def _seen(window: int, length: int) -> float:
    """Mean number of keys a query sees in a causal sequence."""
    if not window or window >= length:
        return length / 2
    return window - window * window / (2 * length)


def _norm(config: ModelConfig, size: int, *, bias: bool = True) -> int:
    if config.norm == "rms":
        return size
    return size * (1 + (bias and config.norm_bias)) if config.norm_affine else 0


def _positions(config: ModelConfig) -> int:
    if config.record:
        return (config.record.buckets + config.record.relations) * config.heads
    learned = config.positions == "learned"
    return (config.max_positions + config.position_offset) * config.hidden_size if learned else 0


def _attention(config: ModelConfig, layer: int) -> int:
    hidden, heads = config.hidden_size, config.heads
    if layer in config.no_attention:
        return 0
    if layer in config.linear_layers:
        return 5 * hidden * heads * config.head_dim
    if config.mla:
        mla = config.mla
        queries = heads * (mla.nope_dim + mla.rope_dim)
        if mla.q_rank:
            query = hidden * mla.q_rank + mla.q_rank * queries + (mla.q_rank if config.qkv_bias else 0)
        else:
            query = hidden * queries
        down = mla.kv_rank + mla.rope_dim
        up = mla.kv_rank * heads * (mla.nope_dim + mla.value_dim)
        biases = (down if config.qkv_bias else 0) + (hidden if config.out_bias else 0)
        return query + hidden * down + up + heads * mla.value_dim * hidden + biases
    rows = sum(config.qkv_rows) if config.kv_source(layer) == layer else config.qkv_rows[0]
    biases = (rows if config.qkv_bias else 0) + (hidden if config.out_bias else 0)
    return hidden * rows + heads * config.head_dim * hidden + biases + (heads if config.attention_sinks else 0)


def _block_norms(config: ModelConfig, layer: int) -> int:
    count = {"parallel": 1, "sandwich": 4}.get(config.block, 2)
    count -= (layer in config.no_attention) + (layer in config.no_mlp)
    total = count * _norm(config, config.hidden_size)
    if layer in config.linear_layers:
        return total + config.heads * config.head_dim
    if config.mla:
        return total + config.mla.kv_rank + (config.mla.q_rank or 0)
    both = config.heads + config.kv_heads
    size = {"none": 0, "head": 2, "heads": both, "full": both}[config.qk_norm] * config.head_dim
    return total + _norm(config, size, bias=config.qk_norm_bias)


def _mlp(config: ModelConfig, inner: int, bias: bool) -> int:
    up = 2 * inner if config.gated else inner
    return config.hidden_size * (up + inner) + (up + config.hidden_size if bias else 0)


def _experts(config: ModelConfig) -> int:
    moe = config.moe
    if moe is None:
        return 0
    router = config.hidden_size * moe.experts + moe.experts * (moe.router_bias + moe.correction)
    shared = _mlp(config, moe.shared_size, config.mlp_bias) if moe.shared_size else 0
    gate = config.hidden_size if moe.shared_gate else 0
    return router + moe.experts * _mlp(config, moe.intermediate_size, moe.expert_bias) + shared + gate


def _block(config: ModelConfig, layer: int) -> int:
    inner = _experts(config) if config.sparse(layer) else _mlp(config, config.intermediate_size, config.mlp_bias)
    return _attention(config, layer) + inner + _block_norms(config, layer)
