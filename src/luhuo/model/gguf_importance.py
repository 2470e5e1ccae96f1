"""How much the columns of each matrix matter: the mean square of the activations they meet, on some text.

It weighs the errors of k-quants when a GGUF file is written. llama.cpp calls such a table an importance matrix; the
files of its `llama-imatrix` (GGUF, general.type "imatrix") are read, or the table is made here.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.core.progress import Progress
from luhuo.files.gguf import GGUF
from luhuo.kernels.gguf_dequantise import dequantise
from luhuo.model.decoder import Decoder
from luhuo.model.gguf_layouts import Layout
from luhuo.model.gguf_links import gguf_links, shapes_of
from luhuo.model.layers import Linear

SUMS, COUNTS = ".in_sum2", ".counts"


def read_importance(path: Path) -> dict[str, Tensor]:
    """The table (columns,), or (experts, columns), of each tensor in a file of llama.cpp. Raises `LuhuoError` if it is
    none."""
    file = GGUF(path)
    names = [name.removesuffix(SUMS) for name in file.tensors if name.endswith(SUMS)]
    if file.metadata.get("general.type") != "imatrix" or not names:
        raise LuhuoError(
            tr("This file is no importance matrix.", "该文件不是重要性矩阵。"),
            expected=tr("GGUF with general.type imatrix", "general.type 为 imatrix 的 GGUF"),
            found=file.metadata.get("general.type"),
            where=path,
            fix="llama-imatrix -m model.gguf -f text.txt -o imatrix.gguf",
        )
    found = {}
    for name in names:
        sums, counts = _read(file, name + SUMS), _read(file, name + COUNTS)
        rows = sums.reshape(-1, sums.shape[-1])
        if counts.numel() != len(rows) or not bool((rows >= 0).all()) or not bool(torch.isfinite(rows).all()):
            raise LuhuoError(
                tr("An entry of the importance matrix is damaged.", "重要性矩阵的一项已损坏。"), found=name, where=path
            )
        counts = counts.reshape(-1, 1)
        means = torch.where(counts > 0, rows / counts.clamp(min=1), 1.0)  # experts that saw nothing weigh evenly
        found[name] = means[0] if len(means) == 1 else means
    return found


def _read(file: GGUF, name: str) -> Tensor:
    info = file.tensors.get(name)
    if info is None:
        raise LuhuoError(
            tr("An entry of the importance matrix is missing.", "重要性矩阵缺少一项。"), found=name, where=file.path
        )
    return dequantise(file.data(name), info.kind, info.shape)


@torch.no_grad()
def measure_importance(model: Decoder, layout: Layout, sequences: Tensor) -> dict[str, Tensor]:
    """The table of each tensor of a file, from sequences (count, length) that run through the model."""
    sums: dict[str, Tensor] = {}
    seen: dict[str, int] = {}

    def look(name: str, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        rows = inputs[0].detach().float().flatten(0, -2)
        sums[name] = sums.get(name, 0) + rows.square().sum(0, dtype=torch.float64)
        seen[name] = seen.get(name, 0) + len(rows)

    modules = {name: module for name, module in model.named_modules() if type(module) is Linear}
    handles = [module.register_forward_pre_hook(partial(look, name)) for name, module in modules.items()]
    try:
        with Progress(tr("importance", "重要性"), len(sequences)) as progress:
            for sequence in sequences:
                model.hidden(sequence[None])
                progress.advance(1)
    finally:
        for handle in handles:
            handle.remove()
    parameters = {f"{name}.weight": modules[name].weight for name in sums}
    found = {}
    for link in gguf_links(model.config, layout.how, parameters):
        mean = (sums[name := link.ours.removesuffix(".weight")] / seen[name]).float()
        for tensor, shape in shapes_of(link, parameters[link.ours]):
            if len(shape) == 2 and shape[-1] == len(mean):
                found[tensor] = mean
    return found
