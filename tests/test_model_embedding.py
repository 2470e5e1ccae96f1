"""A tied embedding's gradient is the same, in whatever form its two parts arrive."""

from __future__ import annotations

import copy

import torch
from torch.nn import functional as F

from luhuo.model.config import ModelConfig
from luhuo.model.decoder import Decoder
from luhuo.model.initialise import initialise
from luhuo.train.objective import CausalLM


def tied() -> Decoder:
    config = ModelConfig(
        family="llama", vocab_size=60, hidden_size=32, layers=1, heads=2, kv_heads=1, head_dim=16,
        intermediate_size=48, qk_norm="none", tie_embeddings=True,
    )  # fmt: skip
    return initialise(Decoder(config), 0).train()


def plain_gradient(model: Decoder, ids: torch.Tensor) -> torch.Tensor:
    """Of an untied copy: the sum of both tables' gradients."""
    table = model.embedding.detach().clone().requires_grad_()
    twin = copy.deepcopy(model)
    twin.embedding = torch.nn.Parameter(table)
    hidden_ids = ids[:, :-1]
    x = F.embedding(hidden_ids, twin.embedding)
    positions, context = twin._context(hidden_ids, None, None)
    assert positions is not None
    for block in twin.blocks:
        x = block(x, context)
    assert twin.norm is not None
    logits = twin.norm(x) @ twin.embedding.T
    F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="sum").backward()
    assert twin.embedding.grad is not None
    return twin.embedding.grad


def test_the_gradient_of_a_tied_table_is_the_sum_of_both_its_uses() -> None:
    model, ids = tied(), torch.randint(0, 60, (3, 9), generator=torch.Generator().manual_seed(0))
    for part in ids.split(1):  # accumulated over micro-batches
        CausalLM().loss(model, {"ids": part})[0].backward()
    assert model.embedding.grad is not None and not model.embedding.grad.is_sparse
    assert torch.allclose(model.embedding.grad, plain_gradient(model, ids), atol=1e-5)


def test_a_loss_without_the_output_layer_leaves_a_dense_gradient() -> None:
    for model in (tied(), copy.deepcopy(tied())):
        model.hidden(torch.tensor([[1, 2, 3]])).sum().backward()
        assert model.embedding.grad is not None and not model.embedding.grad.is_sparse
        assert model.embedding.grad[1].any() and not model.embedding.grad[4:].any()
