"""Embedding and output matrix, which stand outside the blocks: in a small model they are most of it.

They are rounded to the nearest. A row of the embedding is read alone and nothing is summed over it, so no other column
could make up for an error; the output matrix has the largest say of all matrices, and is rarely taken below 8 bits.
"""

from __future__ import annotations

from typing import Literal

from luhuo.compress.rtn import rtn
from luhuo.compress.walk import Walk
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.model.grid import Grid
from luhuo.model.matrices import Kept

Outer = Literal[4, 8, 16]
GROUPS = (64, 32, 16, 8)


def outer(walk: Walk, embedding: Outer, head: Outer) -> dict[str, Kept]:
    """The two in so many bits, by the names of the model's parameters; 16: it stays as it is.

    Raises `LuhuoError` for a head of its own bits in a model whose head is the embedding.
    """
    found: dict[str, Kept] = {}
    links = {link.ours: (link, names) for link, names in walk.links}
    if head != 16 and "unembedding.weight" not in links:
        raise LuhuoError(
            tr("This model's output matrix is its embedding.", "该模型的输出矩阵即其嵌入。"),
            found=f"head_bits={head}",
            fix=f"embedding_bits={head}",
        )
    wanted: list[tuple[str, Outer]] = [("embedding", embedding), ("unembedding.weight", head)]
    for ours, bits in wanted:
        if bits == 16:
            continue
        link, names = links[ours]
        weight = link.join([walk.weights.tensor(name) for name in names]).float()
        group = next((size for size in GROUPS if weight.shape[1] % size == 0), None)
        found[ours] = Kept(rtn(weight, Grid(bits, group)))
    return found
