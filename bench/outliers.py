"""A copy of a model with large columns in the inputs of its blocks, which computes what the original computes.

    python bench/outliers.py RUN/base PLANTED [--columns 6] [--size 60]
    python bench/compression.py RUN --model PLANTED --only w8a8,smoothquant,llm_int8,fp8 --out DIR

Models of billions of parameters have a few columns of activations some 20 to 100 times as large as the others, in
the same places in most blocks (Dettmers et al. 2022, "LLM.int8()", section 4); small ones have not. Here the norms of
a few columns are multiplied and the weights behind them divided by the same number, so that the logits stay as they
are, and whatever 8-bit activations cost more than before comes from the columns.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from luhuo.model.decoder import Decoder
from luhuo.model.load import load_decoder
from luhuo.model.save import save

READERS = {"attention_norm": "attention.qkv", "mlp_norm": "mlp.gate_up"}
"""Each norm of a block, and the matrix that reads what it gives."""


def plant(model: Decoder, columns: torch.Tensor, size: float) -> None:
    """Make these columns `size` times as large behind each norm of the blocks."""
    parameters = dict(model.named_parameters())
    for name, parameter in parameters.items():
        block, _, norm = name.removesuffix(".weight").rpartition(".")
        if norm in READERS:
            parameter[columns] *= size
            parameters[f"{block}.{READERS[norm]}.weight"][:, columns] /= size


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--columns", type=int, default=6)
    parser.add_argument("--size", type=float, default=60.0)
    given = parser.parse_args()
    model = load_decoder(given.model, "fp32", "cpu")
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(model.config.vocab_size, (1, 64), generator=generator)
    before = model(ids)
    columns = torch.randperm(model.config.hidden_size, generator=generator)[: given.columns]
    plant(model, columns, given.size)
    change = (model(ids) - before).abs().max().item()
    if change > 1e-3:
        raise SystemExit(f"The logits moved by {change:.3g}: this model has other norms than {', '.join(READERS)}.")
    save(model, given.out)
    print(
        f"columns {sorted(columns.tolist())} are {given.size:g} times as large; logits moved by {change:.2g} at most"
    )


if __name__ == "__main__":
    main()
