"""Models and batches on which several processes must agree with one, and the processes themselves."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, distributed, multiprocessing, nn
from torch.nn import functional as F

from luhuo.model.config import MLAConfig, ModelConfig, MoEConfig
from luhuo.model.decoder import Decoder
from luhuo.model.encoder import Encoder
from luhuo.model.encoder_config import EncoderConfig
from luhuo.model.encoder_decoder import EncoderDecoder
from luhuo.model.encoder_decoder_config import EncoderDecoderConfig
from luhuo.model.stack_config import DisentangledConfig, StackConfig
from luhuo.train.gradients import Gradients
from luhuo.train.objective import Batch, CausalLM
from luhuo.train.parallel import spread
from luhuo.train.parallel_config import Parallel
from luhuo.train.pieces import gathered, local
from luhuo.train.ranks import Ranks

ROWS, LENGTH, WORDS = 4, 24, 97

PLAIN: dict[str, Any] = {
    "vocab_size": WORDS,
    "hidden_size": 24,
    "layers": 2,
    "heads": 4,
    "kv_heads": 2,
    "head_dim": 8,
    "intermediate_size": 40,
}
EXPERTS: dict[str, Any] = PLAIN | {
    "moe": MoEConfig(experts=8, active=2, intermediate_size=8, balance=0.1, expert_bias=True, balance_over="sequence")
}
DEEPSEEK: dict[str, Any] = PLAIN | {
    "family": "deepseek_v3",
    "kv_heads": 4,
    "head_dim": 12,
    "qk_norm": "none",
    "mla": MLAConfig(q_rank=16, kv_rank=8, nope_dim=8, rope_dim=4, value_dim=6),
    "moe": MoEConfig(
        experts=4,
        active=2,
        intermediate_size=8,
        shared_size=8,
        score="sigmoid",
        correction=True,
        dense_layers=(0,),
        balance=0.1,
        balance_over="sequence",
    ),
    "mtp_layers": 1,
}
STACK: dict[str, Any] = {"hidden_size": 24, "layers": 2, "heads": 4, "head_dim": 6, "intermediate_size": 40}
BERT: dict[str, Any] = STACK | {"vocab_size": WORDS, "head": "masked_lm"}
T5 = STACK | {"positions": "buckets", "norm": "rms", "block": "pre", "final_norm": True, "gated": True}

MODELS: dict[str, Callable[[], Any]] = {
    "plain": lambda: Decoder(ModelConfig(**PLAIN)),
    "one key head": lambda: Decoder(ModelConfig(**PLAIN | {"kv_heads": 1, "qkv_bias": True, "out_bias": True})),
    "sinks and biases": lambda: Decoder(
        ModelConfig(**PLAIN | {"attention_sinks": True, "qkv_bias": True, "out_bias": True, "mlp_bias": True})
    ),
    "a norm for each head": lambda: Decoder(ModelConfig(**PLAIN | {"qk_norm": "heads"})),
    "ALiBi, parallel blocks": lambda: Decoder(
        ModelConfig(
            **PLAIN | {"positions": "none", "alibi_slopes": (0.5, 0.25, 0.125, 0.0625), "block": "parallel"},
            gated=False,
            activation="gelu",
            norm="layer",
            qk_norm="none",
        )
    ),
    "a norm over all heads": lambda: Decoder(ModelConfig(**PLAIN | {"qk_norm": "full"})),
    "experts": lambda: Decoder(ModelConfig(**EXPERTS)),
    "latent attention, experts, two tokens": lambda: Decoder(ModelConfig(**DEEPSEEK)),
    "encoder": lambda: Encoder(EncoderConfig(**BERT)),
    "encoder with shared layers": lambda: Encoder(EncoderConfig(**BERT | {"groups": 1})),
    "encoder with distances": lambda: Encoder(
        EncoderConfig(**BERT | {"positions": "none", "disentangled": DisentangledConfig(span=8)})
    ),
    "encoder-decoder": lambda: EncoderDecoder(
        EncoderDecoderConfig(vocab_size=WORDS, encoder=StackConfig(**T5), decoder=StackConfig(**T5))
    ),
}
"""By name: every kind of attention and feed-forward part there is."""


def make(name: str) -> Any:
    """A model in which no matrix is zero, the same in every process."""
    model = MODELS[name]()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            around = 1.0 if key.endswith("norm.weight") else 0.0
            parameter.copy_(around + 0.2 * torch.randn(parameter.shape, generator=generator))
    return model.train()


class AllTokens:
    """Every token is a target: of an encoder its own, of an encoder-decoder the next."""

    def weight(self, batch: Batch) -> Tensor:
        """Number of targets."""
        return torch.tensor(batch["ids"][:, 1:].numel())

    def loss(self, model: Any, batch: Batch) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Sum of the negative log-likelihood."""
        ids, segments = batch["ids"], batch["segments"]
        if isinstance(model, EncoderDecoder):
            hidden = model.hidden(
                ids[:, :-1], ids[:, :-1], segments=segments[:, :-1], decoder_segments=segments[:, :-1]
            )
        else:
            hidden = model.hidden(ids[:, :-1], segments=segments[:, :-1])
        logits = model.head(hidden)
        return F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="sum"), self.weight(batch), {}


def batch(rank: int = 0, count: int = 1) -> Batch:
    """The share of a global batch of documents of different lengths."""
    generator = torch.Generator().manual_seed(3)
    ids = torch.randint(0, WORDS, (ROWS, LENGTH + 1), generator=generator)
    segments = (torch.rand(ids.shape, generator=generator) < 0.1).cumsum(1).int() + 1
    return {"ids": ids[rank::count], "segments": segments[rank::count]}


def gradients(
    name: str, parallel: dict[str, Any], rows: int = 0, dtype: torch.dtype = torch.float32
) -> dict[str, Tensor]:
    """Loss, norm and every gradient of one step, whole."""
    model = spread(make(name), Parallel(**parallel), dtype).compute_in(None if dtype == torch.float32 else dtype)
    ranks = Ranks()
    objective = CausalLM() if isinstance(model, Decoder) else AllTokens()
    work = Gradients(model, objective, ranks, rows)
    weight, total = work.compute(batch(ranks.rank, ranks.count), 1)
    found = {"loss": ranks.sum(total["loss"]) / weight, "norm": torch.tensor(work.reduce(0.0))}
    for key, p in model.named_parameters():
        if p.grad is not None:
            found[f"gradient of {key}"] = gathered(local(p.grad), p).clone()
    return found


def together(count: int, work: Callable[..., Any], *arguments: Any) -> None:
    """work(rank, *arguments) in `count` processes joined by gloo."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    arguments = (count, port, work, arguments)
    multiprocessing.start_processes(_process, arguments, nprocs=count, start_method="forkserver")


def _process(rank: int, count: int, port: int, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=count)
    work(rank, *arguments)
    distributed.barrier()
    distributed.destroy_process_group()
    os._exit(0)  # as the command line does: taking Python down now and then aborts in a connection's thread


def write_gradients(rank: int, folder: Path, cases: list[tuple[str, dict[str, Any], int]]) -> None:
    """`gradients` of each case, written by the first process to NUMBER.safetensors."""
    for number, (name, parallel, rows) in enumerate(cases):
        found = gradients(name, parallel, rows)
        if rank == 0:
            save_file({key: value.contiguous() for key, value in found.items()}, folder / f"{number}.safetensors")


def read_gradients(folder: Path, number: int) -> dict[str, Tensor]:
    """What `write_gradients` wrote of a case."""
    return load_file(folder / f"{number}.safetensors")


def parameters(model: nn.Module) -> dict[str, Tensor]:
    """All parameters by name."""
    return {name: p.detach() for name, p in model.named_parameters()}
