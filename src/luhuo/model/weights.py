"""Published tensors of a model directory, one at a time, and the way between them and our parameters."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Protocol, Self

import torch
from torch import Tensor, nn

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.files.safetensors import Safetensors
from luhuo.model import families
from luhuo.model.families.links import Link


class Weights(Protocol):
    """Tensors by name, read when they are asked for."""

    where: Path

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """All names, with shapes."""
        ...

    def tensor(self, name: str) -> Tensor:
        """One tensor."""
        ...


class SafetensorsWeights:
    """The safetensors files of a directory, memory-mapped."""

    def __init__(self, root: Path) -> None:
        self.where = root
        self.metadata: dict[str, str] = {}
        self._files: dict[str, Safetensors] = {}
        self._places: dict[str, str] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}
        for path in weight_files(root):
            file = self._files[path.name] = Safetensors(path)
            self.metadata |= file.metadata
            for name, place in file.tensors.items():
                self._places[name] = path.name
                self._shapes[name] = place.shape

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._files.clear()

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """All names, with shapes."""
        return self._shapes

    def tensor(self, name: str) -> Tensor:
        """One tensor, read from the file as it is used."""
        return self._files[self._places[name]].tensor(name)

    def release(self) -> None:
        """Take what was read out of memory; it is read again when it is touched."""
        for file in self._files.values():
            file.release()


def weight_files(root: Path) -> list[Path]:
    """The safetensors files of a directory. Raises `LuhuoError` if some are missing or there are pickles only."""
    index, single = root / "model.safetensors.index.json", root / "model.safetensors"
    if single.is_file():
        return [single]
    if index.is_file():
        places = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        names = sorted(set(places.values()))
        if any(Path(name).name != name for name in names):
            raise LuhuoError(
                tr("The index names a file outside this folder.", "索引指向目录之外的文件。"), found=names, where=index
            )
        files = [root / name for name in names]
        missing = [file.name for file in files if not file.is_file()]
        if not missing:
            return files
        problem = tr("Weight files named by the index are missing.", "索引中列出的权重文件缺失。")
        raise LuhuoError(problem, found=", ".join(missing), where=index)
    pickles = sorted(p.name for p in root.iterdir() if p.suffix in (".bin", ".pt", ".pth", ".ckpt"))
    raise LuhuoError(
        tr("This folder has no safetensors weights.", "该目录没有 safetensors 权重。"),
        expected="model.safetensors",
        found=", ".join(pickles) or None,
        where=root,
        fix=tr(
            "Pickled weights can run code and are not read: convert them to safetensors.",
            "pickle 权重可执行代码，不予读取：请先转换为 safetensors。",
        )
        if pickles
        else None,
    )


def fill(
    model: nn.Module,
    config: Any,
    weights: Weights,
    unused: Collection[str] = (),
    keep: Callable[[Link, Sequence[str]], bool] | None = None,
) -> None:
    """Copy published tensors into a model's parameters, one parameter at a time; those named in `unused` are left.

    `keep`, given a link and the names of its tensors, may put the parameter in place itself, and then says so.

    Names and shapes are checked before anything is read (`matched`).
    """
    parameters = dict(model.named_parameters(remove_duplicate=False))
    with torch.no_grad():
        for link, names in matched(model, config, weights, unused):
            if keep is None or not keep(link, names):
                parameters[link.ours].copy_(link.join([weights.tensor(name) for name in names]))


def matched(
    model: nn.Module, config: Any, weights: Weights, unused: Collection[str] = ()
) -> list[tuple[Link, list[str]]]:
    """Each parameter's link and the names of its tensors as they are spelled in the files.

    Raises `LuhuoError` that names what is missing, unexpected or of the wrong shape.
    """
    family = families.families()[config.family]
    parameters = dict(model.named_parameters(remove_duplicate=False))
    links = {link.ours: link for link in families.links(config)}
    strange = sorted(set(parameters) ^ set(links))
    assert not strange, f"{config.family}: parameters and links differ in {strange[:8]}"
    published = _spelling(weights.shapes(), links.values(), family)
    expected = {name: tuple(part.shape) for name, part in _parts(links.values(), parameters)}
    ignored = re.compile(getattr(family, "IGNORED", r"(?!)"))
    known = {published.get(name, name) for name in expected} | set(unused)
    extra = [name for name in weights.shapes() if name not in known and not ignored.search(name)]
    if getattr(config, "tie_embeddings", False):
        head = getattr(family, "HEAD", "lm_head.weight")
        extra = [name for name in extra if name != head]
    missing = [name for name in expected if name not in published]
    wrong = [
        f"{name} {list(weights.shapes()[published[name]])} ≠ {list(shape)}"
        for name, shape in expected.items()
        if name in published and weights.shapes()[published[name]] != shape
    ]
    _check(missing, extra, wrong, weights.where)
    return [(link, [published[name] for name in link.theirs]) for link in links.values()]


def published_tensors(config: Any, parameters: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """All published tensors of a model, in order, contiguous."""
    for name, part in _parts(families.links(config), parameters):
        yield name, part.contiguous()


def _parts(links: Iterable[Link], parameters: dict[str, Any]) -> Iterator[tuple[str, Tensor]]:
    for link in links:
        parameter = parameters[link.ours]
        yield from zip(link.theirs, link.split(parameter.detach()), strict=True)


def _spelling(shapes: dict[str, tuple[int, ...]], links: Iterable[Link], family: ModuleType) -> dict[str, str]:
    """Our spelling of a published name to the file's, which may lack the prefix or have it in addition, or be old."""
    prefix, old = getattr(family, "PREFIX", ""), getattr(family, "OLD_NAMES", {})
    found: dict[str, str] = {}
    for link in links:
        for name in link.theirs:
            former = [name.removesuffix(new) + was for new, was in old.items() if name.endswith(new)]
            spellings = [s for n in (name, *former) for s in (n, n.removeprefix(prefix), prefix + n)]
            present = next((spelling for spelling in spellings if spelling in shapes), None)
            if present is not None:
                found[name] = present
    return found


def _check(missing: list[str], extra: list[str], wrong: list[str], where: Path) -> None:
    labels = {
        tr("missing", "缺少"): missing,
        tr("unexpected", "多余"): extra,
        tr("wrong shape", "形状不符"): wrong,
    }
    found = [f"{label} ({len(names)}): {', '.join(names[:4])}" for label, names in labels.items() if names]
    if found:
        raise LuhuoError(
            tr("The weights do not fit config.json.", "权重与 config.json 不符。"),
            found="; ".join(found),
            where=where,
            fix=tr(
                "Are config and weights of the same model and version?", "请检查配置与权重是否属于同一模型、同一版本。"
            ),
        )
