"""GGUF in and out: a model from a file of llama.cpp, and a file for it from a model."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import tokenizers
import torch
from torch import Tensor

from luhuo.core.device import fast_bf16, pick_device, pick_dtype
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.core.progress import say
from luhuo.files.gguf import GGUF, TensorInfo
from luhuo.files.gguf_types import TensorType
from luhuo.files.gguf_write import TensorPlan, write_gguf
from luhuo.kernels.gguf_dequantise import ROUNDED, dequantise, rounded_blocks
from luhuo.kernels.gguf_quantise import quantise
from luhuo.model.config import ModelConfig
from luhuo.model.decoder import Decoder
from luhuo.model.families.links import Link
from luhuo.model.gguf_check import check
from luhuo.model.gguf_config import EXTRA, read_metadata
from luhuo.model.gguf_kept import Blocks, RoundedRows, blocks_of, told
from luhuo.model.gguf_kinds import NARROWER, WIDE, Mix, mix_of, stored_as
from luhuo.model.gguf_layouts import LAYOUTS, Layout
from luhuo.model.gguf_links import gguf_links, shapes_of
from luhuo.model.gguf_metadata import extra_vectors, write_metadata
from luhuo.model.gguf_mixture import kept_in_half
from luhuo.model.keeper import Keeper
from luhuo.model.quantised import SCHEMES, Rounded, computed_in

WHOLE = "tokenizer.huggingface.json"


class GGUFWeights:
    """The tensors of a file, or of all files of a model that was split; `read` gives float32."""

    def __init__(self, path: Path) -> None:
        self.where = path
        first = GGUF(path)
        self.metadata: Mapping[str, Any] = first.metadata
        self._places: dict[str, tuple[GGUF, TensorInfo]] = {}
        for file in _parts(first):
            for name, info in file.tensors.items():
                if name in self._places:
                    raise LuhuoError(
                        tr("A tensor is in two parts of the model.", "张量出现在模型的两个分片中。"),
                        found=name,
                        where=file.path,
                    )
                self._places[name] = (file, info)
        self.shapes = {name: info.shape for name, (_, info) in self._places.items()}

    def read(self, name: str) -> Tensor:
        """One tensor. Raises `LuhuoError` if its format is not read."""
        file, info = self._places[name]
        try:
            return dequantise(file.data(name), info.kind, info.shape)
        except LuhuoError as error:
            error.where = f"{file.path}: {name}"
            raise

    def tensor(self, name: str) -> Tensor:
        """One tensor in float32."""
        return self.read(name)

    def rounded(self, name: str) -> Rounded | None:
        """One tensor as it was rounded, if its format is one of `rounded_blocks`; of experts, their rows."""
        file, info = self._places[name]
        if len(info.shape) not in (2, 3) or info.kind not in ROUNDED:
            return None
        shape = (math.prod(info.shape[:-1]), info.shape[-1])
        q, scale, low = rounded_blocks(file.data(name), info.kind, shape)
        return Rounded(q, scale, low, 8 if info.kind == TensorType.Q8_0 else 4, info.kind.weights)

    def vector(self, name: str) -> list[float]:
        """The numbers of a small tensor."""
        if name not in self.shapes:
            raise LuhuoError(
                tr("A tensor is missing in the GGUF file.", "GGUF 文件缺少张量。"), found=name, where=self.where
            )
        return self.read(name).flatten().tolist()


def _parts(first: GGUF) -> Iterator[GGUF]:
    """The file itself and, if it is the first of several, the others that lie beside it."""
    yield first
    count = first.metadata.get("split.count") or 1
    if not isinstance(count, int) or count <= 1:
        return
    match = re.fullmatch(r"(.*-)00001(-of-\d{5}\.gguf)", first.path.name)
    if match is None or first.metadata.get("split.no") != 0:
        raise LuhuoError(
            tr("This is a part of a model that was split.", "这是被拆分的模型的一个分片。"),
            found=first.path.name,
            where=first.path,
            fix=tr("Name the first part: …-00001-of-0000N.gguf", "请指定第一个分片：…-00001-of-0000N.gguf"),
        )
    for number in range(2, count + 1):
        yield GGUF(first.path.with_name(f"{match[1]}{number:05d}{match[2]}"))


def load_gguf(path: str | Path, dtype: str = "auto", device: str = "auto") -> Decoder:
    """Load a model from a GGUF file, dequantised, with the tokenizer of its metadata.

    `dtype` and `device` as in `load.load`; auto is bf16 where that is fast and the model is large. With int8 or int4,
    tensors in Q8_0, Q4_0 and Q4_1 keep their numbers. Raises `LuhuoError` for an architecture that is not read, or
    tensors that are missing, unexpected or of the wrong shape.
    """
    weights = GGUFWeights(Path(path))
    layout, config = read_metadata(weights.metadata, weights.shapes, weights.vector, path)
    place = pick_device(device)
    with torch.device("meta"):
        model = Decoder(config)
    links = _fitting_links(model, layout, weights)
    large = sum(parameter.numel() for parameter in model.parameters()) > 50_000_000
    if dtype == "auto" and not (fast_bf16(place) and large):
        dtype = "fp32"
    kept = pick_dtype(computed_in(dtype, place), place)
    model = model.to(kept).to_empty(device="cpu")
    keep = Keeper(model, weights, SCHEMES[dtype], kept) if dtype in SCHEMES else None
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for link in links:
            named = dict(shapes_of(link, parameters[link.ours]))
            if keep is None or not keep(link, list(named)):
                parts = [weights.read(name).view(shape) for name, shape in named.items()]
                parameters[link.ours].copy_(link.join(parts))
    model.tokenizer = read_tokenizer(weights.metadata)
    return model.to(place).eval()


def read_tokenizer(metadata: Mapping[str, Any]) -> Any:
    """The tokenizer of a file, exactly if the file holds it whole; None if the file has none."""
    if metadata.get("tokenizer.ggml.model") in (None, "none", "no_vocab"):
        return None
    from luhuo.tokenizer.gguf import from_gguf_metadata

    found = from_gguf_metadata(metadata)
    whole = metadata.get(WHOLE)
    if isinstance(whole, str):
        try:
            core = tokenizers.Tokenizer.from_str(whole)
        except Exception as error:  # the library raises plain Exception for every defect of the text
            raise LuhuoError(
                tr("The tokenizer in the GGUF file is damaged.", "GGUF 文件中的分词器已损坏。"),
                found=error,
                where=WHOLE,
            ) from None
        found = type(found)(core, found._config, found.chat_template)
    return found


def _fitting_links(model: Decoder, layout: Layout, weights: GGUFWeights) -> list[Link]:
    """Where all parameters come from, after names and shapes were compared."""
    parameters = dict(model.named_parameters())
    links = list(gguf_links(model.config, layout.how, parameters))
    expected = {name: shape for link in links for name, shape in shapes_of(link, parameters[link.ours])}
    found = weights.shapes
    problems = {
        tr("missing", "缺少"): [name for name in expected if name not in found],
        tr("unexpected", "多余"): [name for name in found if name not in expected and name not in EXTRA],
        tr("wrong shape", "形状不符"): [
            f"{name} {list(found[name])} ≠ {list(shape)}"
            for name, shape in expected.items()
            if name in found and _squeezed(found[name]) != _squeezed(shape)
        ],
    }
    told = [f"{label} ({len(names)}): {', '.join(names[:4])}" for label, names in problems.items() if names]
    if told:
        raise LuhuoError(
            tr("The tensors do not fit the metadata.", "张量与元数据不符。"),
            found="; ".join(told),
            where=weights.where,
            fix=tr("Download the file again, or convert the model anew.", "请重新下载该文件，或重新转换模型。"),
        )
    return links


def _squeezed(shape: tuple[int, ...]) -> tuple[int, ...]:
    """GGUF does not tell (n,) from (1, n)."""
    return tuple(size for size in shape if size != 1)


def export_gguf(
    model: Decoder,
    path: str | Path,
    kind: str = "f16",
    *,
    name: str | None = None,
    note: Callable[[str], None] = say,
    rounded: RoundedRows | None = None,
    importance: Mapping[str, Tensor] | None = None,
) -> None:
    """Write a model, its tokenizer and its chat template for llama.cpp.

    `kind` is one of `gguf_kinds.MIXES`. Norms and vectors stay in float32, a matrix whose rows are no whole number of
    blocks gets another format or f16; q8_0 keeps more in f16 (`gguf_mixture.py`), q8_0_plain does not. Matrices in
    `rounded` keep their integers where the format allows it. `importance`: by the names of the file's tensors, mean
    squares of the inputs, which weigh errors of k-quants (`gguf_importance.py`). `note` is told what a reader should
    know. Raises `LuhuoError` if llama.cpp has no such architecture or could not compute this variant of it.
    """
    mix = mix_of(kind)
    config = model.config
    held = model.named_parameters(remove_duplicate=False)  # layers may share weights
    parameters = {key: value for key, value in held if not key.startswith("mtp.")}
    layout = find_layout(config)
    links = list(gguf_links(config, layout.how, parameters))
    if layout.head and config.tie_embeddings:
        parameters["unembedding.weight"] = parameters["embedding"]
        links += gguf_links(config, layout.how, ["unembedding.weight"])
    check(config, layout, links, parameters, note)
    if config.mtp_layers:
        note(tr("Multi-token prediction is left out of the file.", "文件不含多词元预测部分。"))
    metadata: dict[str, Any] = {
        "general.architecture": layout.architecture,
        "general.type": "model",
        "general.name": name or Path(path).stem,
        "general.file_type": mix.file_type,
        "general.quantization_version": 2,
        **write_metadata(config, layout),
        **_tokenizer_metadata(model, note),
    }
    plans = _plans(config, links, parameters, kind, note, rounded, importance or {})
    write_gguf(path, metadata, [*_vector_plans(config), *plans])


def find_layout(config: ModelConfig) -> Layout:
    """How a config is written. Raises `LuhuoError` for a family that is not."""
    found = [layout for layout in LAYOUTS if config.family in layout.families]
    if not found:
        raise LuhuoError(
            tr("This family of models cannot be written to GGUF.", "这个模型家族无法写成 GGUF。"),
            expected=", ".join(sorted({family for layout in LAYOUTS for family in layout.families})),
            found=config.family,
            fix=tr("Export it in the Hugging Face layout.", "请导出为 Hugging Face 目录格式。"),
        )
    if len(found) == 2:  # Falcon, with a norm for each branch or with one for both
        return found[0] if config.block == "parallel_two" else found[1]
    return found[0]


def _tokenizer_metadata(model: Decoder, note: Callable[[str], None]) -> dict[str, Any]:
    if model.tokenizer is None:
        note(tr("The model has no tokenizer: neither has the file.", "模型没有分词器，文件里也没有。"))
        return {"tokenizer.ggml.model": "none"}
    from luhuo.tokenizer.gguf_export import gguf_metadata

    exported = gguf_metadata(model.tokenizer, model.config.vocab_size)
    if not exported.exact:
        note(
            tr(
                f"llama.cpp does not know how this tokenizer cuts text. The nearest way it knows is {exported.pre}, "
                f"with equal ids on {exported.agreement:.0%} of the probe's lines; Luhuo reads the exact one back.",
                f"llama.cpp 不认识该分词器的切分方式。最接近的是 {exported.pre}，"
                f"在 {exported.agreement:.0%} 的测试行上编号相同；炉火读回的是原分词器。",
            )
        )
    return exported.metadata


def _vector_plans(config: ModelConfig) -> list[TensorPlan]:
    plans = []
    for name, values in extra_vectors(config).items():
        tensor = torch.tensor(values, dtype=torch.float32)
        plans.append(TensorPlan(name, (len(values),), TensorType.F32, lambda tensor=tensor: [tensor.numpy()]))
    return plans


def _plans(
    config: ModelConfig,
    links: Iterable[Link],
    parameters: Mapping[str, Tensor],
    kind: str,
    note: Callable[[str], None],
    rounded: RoundedRows | None,
    importance: Mapping[str, Tensor],
) -> list[TensorPlan]:
    """All tensors, each turned into bytes only when it is written."""
    mix = mix_of(kind)
    places = {
        name: (link, index, shape)
        for link in links
        for index, (name, shape) in enumerate(shapes_of(link, parameters[link.ours]))
    }
    tied = "unembedding.weight" not in parameters
    stored = {name: stored_as(name, shape, mix, config, tied=tied) for name, (_, _, shape) in places.items()}
    _say_fallbacks({name: shape for name, (_, _, shape) in places.items()}, stored, mix, note)
    if kind == "q8_0":
        eight = {name: shape for name, (_, _, shape) in places.items() if stored[name] == TensorType.Q8_0}
        stored |= dict.fromkeys(kept_in_half(eight), TensorType.F16)
    plans, kept, anew = [], [], []
    for name, (link, index, shape) in places.items():
        source = rounded.of(link, index) if rounded is not None and kind not in WIDE else None
        found = None if source is None else blocks_of(source, stored[name])
        if isinstance(found, Blocks):
            kept.append((found.kind, found.exact))
            plans.append(TensorPlan(name, shape, found.kind, _as_it_was(rounded, link, index, stored[name])))
            continue
        if found is not None:
            anew.append(found)
        make = _pieces(link, index, parameters[link.ours], stored[name], name, importance.get(name))
        plans.append(TensorPlan(name, shape, stored[name], make))
    if kept or anew:
        note(told(kept, anew))
    return plans


def _say_fallbacks(
    shapes: Mapping[str, tuple[int, ...]],
    stored: Mapping[str, TensorType],
    mix: Mix,
    note: Callable[[str], None],
) -> None:
    """Tell which matrices got another format because of their width."""
    unfit = [name for name, shape in shapes.items() if stored[name] == TensorType.F16 and mix.kind.weights > 1]
    other = Counter(
        kind.name
        for kind in stored.values()
        if kind in NARROWER.values() and mix.kind in NARROWER and kind != mix.kind
    )
    if other:
        held = ", ".join(f"{count} {kind}" for kind, count in sorted(other.items()))
        note(
            tr(
                f"Rows that are no multiple of 256 do not fit k-quants; these matrices are larger: {held}.",
                f"行宽不是 256 的倍数，放不进 k-quant；这些矩阵用了更大的格式：{held}。",
            )
        )
    if unfit:
        note(
            tr(
                f"{len(unfit)} matrices stay in F16, their rows are no multiple of 32: {', '.join(unfit[:3])}…",
                f"{len(unfit)} 个矩阵保留为 F16（行宽不是 32 的倍数）：{', '.join(unfit[:3])}…",
            )
        )


def _as_it_was(rounded: RoundedRows | None, link: Link, index: int, asked: TensorType) -> Callable[[], Iterator[Any]]:
    """The bytes of a matrix that keeps its integers, read again when they are written."""

    def produce() -> Iterator[Any]:
        source = rounded.of(link, index) if rounded is not None else None
        found = None if source is None else blocks_of(source, asked)
        assert isinstance(found, Blocks)
        for piece in found.pieces():
            yield piece.numpy()

    return produce


def _pieces(
    link: Link, index: int, parameter: Tensor, kind: TensorType, name: str, importance: Tensor | None
) -> Callable[[], Iterator[Any]]:
    def produce() -> Iterator[Any]:
        part = link.split(parameter.detach().float() if parameter.dtype == torch.float16 else parameter.detach())
        for piece in quantise(part[index], kind, name, importance):
            yield piece.numpy()

    return produce
