"""What an encoder or encoder-decoder of a given shape costs: parameters and operations, without building it."""

from __future__ import annotations

from luhuo.model import count
from luhuo.model.config import ModelConfig
from luhuo.model.encoder_config import EncoderConfig
from luhuo.model.encoder_decoder_config import EncoderDecoderConfig
from luhuo.model.stack_config import StackConfig


def total(config: ModelConfig | EncoderConfig | EncoderDecoderConfig) -> int:
    """Number of parameters of a model of any kind."""
    parts = count.parameters(config) if isinstance(config, ModelConfig) else parameters(config)
    return sum(parts.values())


def parameters(config: EncoderConfig | EncoderDecoderConfig) -> dict[str, int]:
    """Number of parameters by part; the values add up to the model's total."""
    if isinstance(config, EncoderDecoderConfig):
        embedding = config.vocab_size * config.encoder.width
        parts = {"embedding": embedding}
        for half, stack in (("encoder", config.encoder), ("decoder", config.decoder)):
            parts |= {f"{half} {name}": n for name, n in _stack(stack, decoder=half == "decoder").items()}
        untied = 0 if config.tie_embeddings else config.vocab_size * config.decoder.hidden_size
        parts["head"] = untied + (config.vocab_size if config.head_bias else 0)
    else:
        parts = {"embedding": (config.vocab_size + config.token_types) * config.width, **_stack(config)}
        parts["head"] = _head(config)
    return {name: count for name, count in parts.items() if count}


def flops_per_token(
    config: EncoderConfig | EncoderDecoderConfig, length: int, *, written: int = 0, predicted: float = 1.0
) -> int:
    """Floating-point operations of forward and backward for one token of a text of `length` tokens that is read.

    Six per matrix parameter a token passes (shared layers as often as they are passed, the embedding only as an
    output), and 12 · heads · head_dim per visible key and block (Kaplan et al. 2020, appendix B). An encoder's output
    is computed for the share `predicted` of the tokens. An encoder-decoder's decoder writes `written` tokens beside
    the `length` that are read; its work is spread over those.
    """
    if isinstance(config, EncoderDecoderConfig):
        decoder = config.decoder
        inner, width = decoder.heads * decoder.head_dim, decoder.hidden_size
        parts = _stack(decoder, decoder=True)
        matrices = parts["attention"] + parts["mlp"] + decoder.blocks * 2 * width * inner
        matrices += config.vocab_size * width
        attending = 12 * inner * decoder.layers * (written / 2 + length)
        keys = 6 * decoder.blocks * 2 * width * inner  # keys and values of what was read, once for each token of it
        return round(_reading(config.encoder, length) + keys + (6 * matrices + attending) * written / length)
    head = _head(config) + (config.vocab_size * config.width if config.predicts_tokens else 0)
    return round(_reading(config, length) + 6 * head * predicted)


def _reading(config: StackConfig, length: int) -> float:
    """Operations of one token's way through a stack that looks both ways."""
    passes = len(config.order) / config.blocks
    parts = _stack(config)
    matrices = passes * (parts["attention"] + parts["mlp"]) + parts.get("projection", 0)
    seen = sum(min(2 * window + 1, length) if window else length for window in map(config.window, config.order))
    return 6 * matrices + 12 * config.heads * config.head_dim * seen


def _norm(config: StackConfig, size: int) -> int:
    return size * (2 if config.norm == "layer" and config.norm_bias else 1)


def _stack(config: StackConfig, *, decoder: bool = False) -> dict[str, int]:
    hidden, inner = config.hidden_size, config.heads * config.head_dim
    wide = config.intermediate_size * (2 if config.gated else 1)
    attention = 4 * hidden * inner + 3 * inner * config.qkv_bias + hidden * config.out_bias
    mlp = hidden * (wide + config.intermediate_size) + (wide + hidden) * config.mlp_bias
    norms = config.blocks * (2 + decoder) * _norm(config, hidden) - (0 if config.first_norm else _norm(config, hidden))
    norms += _norm(config, config.width) * config.embedding_norm + _norm(config, hidden) * config.final_norm
    positions = (config.max_positions + config.position_offset) * config.width if config.positions == "learned" else 0
    positions += config.buckets * config.heads if config.positions == "buckets" else 0
    convolution, own = 0, 0
    if config.disentangled:
        settings = config.disentangled
        positions += 2 * settings.span * hidden
        own = 0 if settings.shared else (settings.terms - 1) * (hidden * inner + inner * config.qkv_bias)
        convolution = hidden * (hidden * settings.kernel + 1) if settings.kernel else 0
        norms += _norm(config, hidden) * (settings.norm + bool(settings.kernel))
    return {
        "positions": positions,
        "projection": (config.width + 1) * hidden if config.width != hidden else 0,
        "attention": config.blocks * (attention + own),
        "cross attention": config.blocks * attention if decoder else 0,
        "mlp": config.blocks * mlp,
        "convolution": convolution,
        "norms": norms,
    }


def _head(config: EncoderConfig) -> int:
    hidden = config.hidden_size

    def transform(size: int, *, norm: bool) -> int:
        return hidden * size + size * config.transform_bias + (_norm(config, size) if norm else 0)

    total = 0
    if config.predicts_tokens:
        total += transform(config.width, norm=True) + config.vocab_size * config.head_bias
    if config.token_outputs:
        dense = config.token_transform or config.head == "detection"
        total += transform(hidden, norm=config.token_transform) if dense else 0
        total += (hidden + 1) * config.token_outputs
    if config.text_outputs or config.pooler:
        total += transform(hidden, norm=config.text_norm)
        total += (hidden + 1) * config.text_outputs if config.text_outputs else 0
    return total
