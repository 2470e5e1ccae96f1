"""Opening a model by any reference, an adapter's directory included (its base is named in adapter_config.json), and
that of a proxy-tuned model (proxy.json names three)."""

from __future__ import annotations

from pathlib import Path

import torch

from luhuo.adapter.attach import merge, needed
from luhuo.adapter.files import CONFIG, base_format, is_adapter, load, read_values
from luhuo.adapter.proxy_files import NAMES, is_proxy, read_proxy
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.files.references import resolve
from luhuo.model.decoder import Decoder
from luhuo.model.load import load as load_model
from luhuo.model.load import load_decoder
from luhuo.model.quantised import SCHEMES
from luhuo.model.quantised_save import has_rounded
from luhuo.model.save import Model

NUMBERS = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}


def open_model(
    reference: str | Path,
    dtype: str = "auto",
    device: str = "auto",
    *,
    adapter: str | Path | None = None,
    mtp: bool = True,
) -> Model:
    """Like `model.load.load`, where `reference` may be an adapter's directory, or `adapter` names one; a proxy-tuned
    model's directory comes as a `ProxyTuned`.

    The adapter is merged where its method allows it, and stays attached otherwise, or where the weights are kept in
    few bits; with "auto" they are kept as they were when it was trained, if that was in few bits. A tokenizer beside
    the adapter is the one that counts.
    """
    if adapter is None:
        if is_proxy(reference):
            return _open_proxy(reference, dtype, device)
        if not is_adapter(reference):
            return load_model(reference, dtype, device, mtp=mtp)
        reference, adapter = base_of(reference), reference
    folder = resolve(str(adapter)).path
    if dtype == "auto" and base_format(folder) in SCHEMES:
        dtype = base_format(folder)
    model = load_model(reference, dtype, device, mtp=mtp)
    load(model, folder, base=str(reference))
    if needed(model).mergeable and not has_rounded(model):
        merge(model)
    model.requires_grad_(True)
    if (folder / "tokenizer.json").is_file():
        from luhuo.tokenizer.tokenizer import Tokenizer

        model.tokenizer = Tokenizer.load(folder)
    return model.eval()


def open_decoder(
    reference: str | Path, dtype: str = "auto", device: str = "auto", *, adapter: str | Path | None = None
) -> Decoder:
    """Like `open_model`, for those who need a model that writes text on its own. Raises `LuhuoError` for another."""
    if adapter is None and not is_adapter(reference) and not is_proxy(reference):
        return load_decoder(reference, dtype, device)
    model = open_model(reference, dtype, device, adapter=adapter)
    if not isinstance(model, Decoder):
        raise LuhuoError(
            tr("This model does not write text on its own.", "该模型不能独立生成文本。"),
            found=type(model).__name__,
            where=reference,
        )
    return model


def _open_proxy(folder: str | Path, dtype: str, device: str) -> Decoder:
    """The three models of a proxy-tuned one. With "auto" the small ones compute as the large one does."""
    from luhuo.adapter.proxy_tuning import ProxyTuned

    references, alpha = read_proxy(folder)
    nested = next((name for name in NAMES if is_proxy(references[name])), None)
    if nested is not None:  # also one that names itself
        raise LuhuoError(
            tr("A proxy-tuned model cannot be made of another one.", "代理调优的模型不能嵌套。"),
            found=references[nested],
            where=nested,
        )
    large = open_decoder(references["model"], dtype, device)
    if dtype == "auto":
        dtype = NUMBERS[large.dtype]
    tuned, base = (open_decoder(references[name], dtype, device) for name in NAMES[1:])
    return ProxyTuned(large, tuned, base, alpha)


def base_of(folder: str | Path) -> str:
    """The model that an adapter's directory names; a path is looked for from here, then from the adapter's folder.

    Raises `LuhuoError` if it names none.
    """
    root = Path(folder)
    base = read_values(root).get("base_model_name_or_path")
    if not isinstance(base, str) or not base:
        raise LuhuoError(
            tr("The adapter does not say which model it belongs to.", "适配器没有说明它属于哪个模型。"),
            expected="base_model_name_or_path",
            where=root / CONFIG,
            fix=tr("Name the model, and the adapter with adapter=DIR.", "请指定模型，并以 adapter=目录 指定适配器。"),
        )
    for place in (Path(base), root / base, root.parent / base):
        if place.exists():
            return str(place)
    return base
