"""`luhuo merge`: adapters into their base, or several adapters into one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from luhuo.core.errors import LuhuoError, RunFailed
from luhuo.core.language import tr
from luhuo.core.progress import say

if TYPE_CHECKING:
    from torch import Tensor

    from luhuo.model.decoder import Decoder

KINDS = ("fp32", "bf16", "fp16")
TOLERANCE = 1e-3
"""Largest difference of a logit, over their spread, that merging in fp32 may make."""
PROBE = 64
"""Tokens of the text on which both are compared."""


def merge(
    adapters: Sequence[str],
    out: Path,
    *,
    base: str | None = None,
    how: str = "linear",
    weights: Sequence[float] = (),
    density: float = 0.5,
    rank: int = 0,
    dtype: str = "fp32",
    keep: bool = False,
) -> None:
    """Merge adapters into their base and write a model directory in `dtype`, or (`keep`) one adapter into `out`.

    The weights are merged in fp32 whatever they are kept in, and the logits before and after are compared. An adapter
    that was trained on weights in few bits is merged into what these stand for, since it makes up for their errors.
    Raises `LuhuoError` for adapters that do not go together, `RunFailed` if the merged model computes something else.
    """
    import torch

    from luhuo.adapter.attach import merge as merge_in
    from luhuo.adapter.combine import combine
    from luhuo.adapter.files import base_format, load, save
    from luhuo.adapter.open import base_of
    from luhuo.files.references import resolve
    from luhuo.model.load import load_decoder, read_tokenizer
    from luhuo.model.quantised import round_like
    from luhuo.model.save import save as save_model

    if dtype not in KINDS:
        raise LuhuoError(tr("Unknown number format.", "未知的数值格式。"), expected=", ".join(KINDS), found=dtype)
    folders = [resolve(name).path for name in adapters]
    found = {base or base_of(folder) for folder in folders}
    if len(found) > 1:
        raise LuhuoError(
            tr("The adapters belong to different models.", "这些适配器属于不同的模型。"),
            found=", ".join(sorted(found)),
            fix=tr("Name one with --base.", "请用 --base 指定其一。"),
        )
    reference = found.pop()
    formats = {base_format(folder) for folder in folders}
    model = load_decoder(reference, dtype="fp32", device="cpu")
    if len(formats) == 1 and not formats <= set(KINDS):
        round_like(model, load_decoder(reference, dtype=formats.pop(), device="cpu"))
    if len(folders) == 1 and not rank:
        load(model, folders[0], base=reference)
    else:
        combine(model, folders, how, weights=weights, density=density, rank=rank, base=reference)  # type: ignore[arg-type]
    model.tokenizer = read_tokenizer(folders[0], None) or model.tokenizer
    if keep:
        save(model, out)
        if model.tokenizer is not None:
            model.tokenizer.save(out)
        say(tr(f"{out}: one adapter of {len(folders)}", f"{out}：由 {len(folders)} 个适配器合成的一个适配器"))
        return
    before = _probe(model)
    merge_in(model)
    gap = float((_probe(model) - before).abs().max() / before.std())
    if not gap <= TOLERANCE:
        raise RunFailed(
            tr("The merged model computes something else.", "合并后的模型结果不一致。"),
            expected=f"≤ {TOLERANCE:g}",
            found=f"{gap:.2g}",
        )
    save_model(model, out, dtype=dict(zip(KINDS, (torch.float32, torch.bfloat16, torch.float16), strict=True))[dtype])
    told = f"{gap:.1e}"
    say(tr(f"{out}: merged, logits differ by {told} of their spread", f"{out}：已合并，logits 相差其标准差的 {told}"))


def _probe(model: Decoder) -> Tensor:
    """Logits (1, PROBE, vocab) of random tokens."""
    import torch

    count = min(PROBE, model.config.max_positions - model.ahead)
    ids = torch.randint(model.config.vocab_size, (1, count), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return model(ids)
