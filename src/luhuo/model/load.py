"""Opening a model: a directory in the Hugging Face layout (safetensors only, checked before use) or a GGUF file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from luhuo.core.device import fast_bf16, pick_device, pick_dtype
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.model.config import ModelConfig
from luhuo.model.decoder import Decoder
from luhuo.model.encoder import Encoder
from luhuo.model.encoder_config import EncoderConfig
from luhuo.model.encoder_decoder import EncoderDecoder
from luhuo.model.encoder_decoder_config import EncoderDecoderConfig
from luhuo.model.factorised import FactorisedWeights, Factoriser
from luhuo.model.families import fit, links, read_config
from luhuo.model.keeper import Keeper, KeptSource
from luhuo.model.packed import unpacked
from luhuo.model.quantised import SCHEMES, computed_in, quantise_model
from luhuo.model.save import TOKENIZER_KEY, Model
from luhuo.model.sentence import encoder_folder, read_sentence
from luhuo.model.sharing import tie
from luhuo.model.sparse import SPARSE, keep_sparse
from luhuo.model.weights import SafetensorsWeights, Weights, fill

MODELS: dict[type, type] = {ModelConfig: Decoder, EncoderConfig: Encoder, EncoderDecoderConfig: EncoderDecoder}
"""The module that each class of config describes."""

TOKENIZER_FILES = ("tokenizer.json", "*.model", "*.tiktoken", "tekken.json", "merges.txt", "vocab.txt")
"""A directory with none of these has no tokenizer."""


def load(reference: str | Path, dtype: str = "auto", device: str = "auto", *, mtp: bool = True) -> Model:
    """Load a model directory, a GGUF file, or a reference or short name of either, for use (evaluation mode), with
    `model.tokenizer` if it has one. An encoder comes as an `Encoder`, an encoder-decoder as an `EncoderDecoder` (see
    `MODELS`).

    `dtype` is the one parameters are kept and computed in: fp32, bf16, fp16, or auto (bf16 where that is fast and
    the weights are bf16 already or large, otherwise fp32). For a decoder it may be int8 or int4: matrices are kept in
    so many bits (`quantised`), made one by one, and bf16 is computed in where that is fast, otherwise fp32. Or sparse:
    matrices that were pruned to 2:4 are kept in nine bits a weight. On a CPU auto keeps a quantised directory so.
    Blocks of multi-token prediction are kept where the files have them, unless `mtp` is false. Raises `LuhuoError`
    for anything that does not fit.
    """
    folder = _local(reference)
    if folder.is_file():
        from luhuo.model.gguf import load_gguf

        found = load_gguf(folder, dtype, device)
        return _two_of_four(found, reference) if dtype == SPARSE else found
    root = encoder_folder(folder)
    values = read_values(root)
    config = read_config(values, root / "config.json")
    if isinstance(config, EncoderConfig):
        config = config.model_copy(update={"sentence": read_sentence(folder)})
    place = pick_device(device)
    with SafetensorsWeights(root) as files:
        weights = unpacked(files, values)
        config, unused = _prediction(fit(config, weights.shapes()), weights, mtp)
        with torch.device("meta"):
            model = MODELS[type(config)](config)
        published = dtype == "auto" and isinstance(weights, KeptSource) and place.type == "cpu"
        kept = str(values.get("dtype") or values.get("torch_dtype") or "float32")
        large = sum(parameter.numel() for parameter in model.parameters()) > 50_000_000
        if dtype == "auto" and not (fast_bf16(place) and (large or kept == "bfloat16")):
            dtype = "fp32"
        if dtype in (*SCHEMES, SPARSE) and not isinstance(config, ModelConfig):
            raise LuhuoError(
                tr("Only decoders are kept in few bits.", "只有解码器能以低位数保存。"),
                expected="fp32, bf16",
                found=dtype,
                where=root,
            )
        published = published and isinstance(config, ModelConfig)
        kept_in = pick_dtype(computed_in("int8" if published else dtype, place), place)
        model = model.to(kept_in).to_empty(device="cpu")
        if isinstance(model, Decoder):
            tie(model)
        if isinstance(weights, FactorisedWeights):
            fill(model, config, weights, unused, Factoriser(model, weights, kept_in))
            if dtype in SCHEMES:
                quantise_model(model, dtype)
        else:
            few = published or dtype in SCHEMES
            keep = Keeper(model, weights, SCHEMES.get(dtype), kept_in) if few else None
            fill(model, config, weights, unused, keep)
        fingerprint = files.metadata.get(TOKENIZER_KEY)
    model.tokenizer = read_tokenizer(root, fingerprint)
    if dtype == SPARSE:
        _two_of_four(model, reference)
    return model.to(place).eval()


def load_decoder(reference: str | Path, dtype: str = "auto", device: str = "auto") -> Decoder:
    """Like `load`, for those who need a model that writes text on its own. Raises `LuhuoError` for another kind."""
    model = load(reference, dtype, device)
    if not isinstance(model, Decoder):
        raise LuhuoError(
            tr("This model does not write text on its own.", "该模型不能独立生成文本。"),
            expected=tr("a decoder (a causal language model)", "解码器（因果语言模型）"),
            found=f"{type(model).__name__} ({model.config.family})",
            where=reference,
        )
    return model


def _two_of_four(model: Any, reference: str | Path) -> Any:
    """A decoder whose pruned matrices are kept as such. Raises `LuhuoError` if it has none."""
    if not keep_sparse(model):
        raise LuhuoError(
            tr(
                "No matrix of this model keeps at most two of every four values.",
                "该模型没有每四个值至多保留两个的矩阵。",
            ),
            expected=tr("a model pruned to 2:4", "按 2:4 剪枝的模型"),
            found=reference,
        )
    return model


def _prediction(config: Any, weights: Weights, wanted: bool) -> tuple[Any, set[str]]:
    """The config with multi-token prediction only if it is wanted and in the files, and the tensors left unused."""
    if not getattr(config, "mtp_layers", 0):
        return config, set()
    names = {name for link in links(config) if link.ours.startswith("mtp.") for name in link.theirs}
    present = names & weights.shapes().keys()
    if wanted and present:
        return config, set()
    return config.model_copy(update={"mtp_layers": 0}), present


def _local(reference: str | Path) -> Path:
    path = Path(reference)
    if not path.exists():
        from luhuo.files.references import resolve

        path = resolve(str(reference)).path
    if not path.is_dir() and path.suffix != ".gguf":
        raise LuhuoError(
            tr("There is no model here.", "这里没有模型。"),
            expected=tr(
                "a folder with config.json and safetensors files, or a GGUF file",
                "含 config.json 与 safetensors 文件的目录，或 GGUF 文件",
            ),
            where=reference,
        )
    return path


def read_values(root: Path) -> dict[str, Any]:
    """The parsed config.json of a model directory. Raises `LuhuoError` if it is not there or no JSON object."""
    file = root / "config.json"
    if not file.is_file():
        raise LuhuoError(
            tr("This folder is not a model: it has no config.json.", "该目录不是模型：缺少 config.json。"), where=root
        )
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise LuhuoError(
            tr("config.json is not valid JSON.", "config.json 不是合法的 JSON。"), found=str(error), where=file
        ) from None
    if not isinstance(values, dict):
        raise LuhuoError(
            tr("config.json is not an object.", "config.json 不是 JSON 对象。"),
            found=type(values).__name__,
            where=file,
        )
    return values


def read_tokenizer(root: Path, fingerprint: str | None) -> Any:
    """The tokenizer of a model directory, if it has one. Raises `LuhuoError` if its fingerprint is another one."""
    if not any(any(root.glob(pattern)) for pattern in TOKENIZER_FILES):
        return None
    from luhuo.tokenizer.tokenizer import Tokenizer

    tokenizer = Tokenizer.load(root)
    if fingerprint is not None and tokenizer.fingerprint != fingerprint:
        raise LuhuoError(
            tr("The tokenizer is not the one these weights were trained with.", "分词器与训练这些权重时所用的不同。"),
            expected=fingerprint[:16],
            found=tokenizer.fingerprint[:16],
            where=root,
            fix=tr("Put the original tokenizer files back.", "请放回原来的分词器文件。"),
        )
    return tokenizer
