"""A copy of a model with large columns in the inputs of its blocks.

    python bench/outliers.py RUN/base PLANTED [--pairs 3] [--size 60]
    python bench/compression.py RUN --model PLANTED --only bf16,w8a8,smoothquant,llm_int8 --out DIR

Models of billions of parameters have a few columns of activations some 20 to 100 times as large as the others, in
the same places in most blocks (Dettmers et al. 2022, "LLM.int8()", section 4); small ones have not. Here pairs of
columns are made equal wherever they are written, `size` times as large behind each norm of the blocks, and opposite
where they are read: as in large models little depends on their exact numbers, and what rounding costs comes from the
range that they take. The copy knows a little less than the original, as these columns cancel: it is compared with
itself.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from luhuo.model.decoder import Decoder
from luhuo.model.load import load_decoder
from luhuo.model.save import save

NORMS, READERS, WRITERS = (
    ("attention_norm", "mlp_norm"),
    ("attention.qkv", "mlp.gate_up"),
    ("attention.out", "mlp.down"),
)


def plant(model: Decoder, first: torch.Tensor, second: torch.Tensor, size: float) -> None:
    """Make the columns `first` and `second` of the hidden states equal, large behind norms and opposite where read."""
    for name, parameter in model.named_parameters():
        part = name.removesuffix(".weight")
        if part.endswith(NORMS):
            parameter[torch.cat([first, second])] = size
        elif part.endswith(WRITERS):
            parameter[second] = parameter[first]
        elif part.endswith(READERS):
            parameter[:, second] = -parameter[:, first]
        elif name == "embedding":
            parameter[:, second] = parameter[:, first]


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--size", type=float, default=60.0)
    given = parser.parse_args()
    model = load_decoder(given.model, "fp32", "cpu")
    columns = torch.randperm(model.config.hidden_size, generator=torch.Generator().manual_seed(0))[: 2 * given.pairs]
    plant(model, *columns.chunk(2), given.size)
    save(model, given.out)
    print(f"columns {', '.join(str(column) for column in sorted(columns.tolist()))} are {given.size:g} behind norms")


if __name__ == "__main__":
    main()
