"""`hf:` and `ms:` references: which repository, which of its files, and what to say when a hub does not deliver."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from types import ModuleType

from luhuo.core.errors import LuhuoError, RunFailed
from luhuo.core.language import tr
from luhuo.files import aliases

HUBS = ("hf", "ms")

WEIGHTS = ("*.safetensors",)
MODEL_FILES = (
    "*.json",  # configuration, index of the weights, tokenizer, modules of a sentence encoder
    "*.jinja",
    "*.txt",  # vocab.txt, merges.txt
    "*.model",  # SentencePiece
    "*.tiktoken",
    "README.md",
    "LICENSE*",
)
"""What a model needs beside its weights. Pickled weights can run code and are never fetched; a GGUF file is fetched
when it is named."""

DUPLICATES = ("onnx/*", "openvino/*", "coreml/*", "original/*", "metal/*", "consolidated*", "*.fp16.*", "*.bf16.*")
"""The same weights once more, for other programs."""

SPLIT = re.compile(r"-\d{5}-of-(\d{5})\.gguf$")
"""The end of the name of a GGUF file that is one of several: they come together."""

PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


@dataclass(frozen=True)
class HubReference:
    """OWNER/NAME with an optional path inside and revision; `datasets/` in front names a data set."""

    scheme: str
    repository: str
    inner: str = ""
    revision: str | None = None
    dataset: bool = False
    weights: bool = True
    """False: of a whole model, everything but the weights."""

    def __str__(self) -> str:
        inner = f"/{self.inner}" if self.inner else ""
        revision = f"@{self.revision}" if self.revision else ""
        return f"{self.scheme}:{'datasets/' if self.dataset else ''}{self.repository}{inner}{revision}"

    @property
    def patterns(self) -> list[str] | None:
        """Glob patterns of the files to fetch (`*` crosses folders, as the hub's own client has it); None is all."""
        if self.inner:
            return [SPLIT.sub(r"-?????-of-\1.gguf", self.inner), f"{self.inner}/*"]
        return None if self.dataset else [*MODEL_FILES, *(WEIGHTS if self.weights else ())]

    @property
    def ignored(self) -> list[str]:
        """Patterns of the files to leave out: a pickle in a folder of a model comes only under its own name."""
        if self.dataset:
            return []
        return [f"{self.inner}/*{end}" for end in PICKLES] if self.inner else list(DUPLICATES)

    def chosen(self, names: Iterable[str]) -> list[str]:
        """Those of a repository's files that this reference asks for."""
        patterns = self.patterns
        return [
            name
            for name in names
            if (patterns is None or any(fnmatchcase(name, p) for p in patterns))
            and not any(fnmatchcase(name, p) for p in self.ignored)
        ]


class Unreachable(RunFailed):
    """The hub does not answer at all: another hub, a mirror or a local copy may help."""

    def __init__(self, reference: HubReference, host: str, found: object) -> None:
        super().__init__(
            tr(f"The hub {host} cannot be reached.", f"无法连接模型仓库 {host}。"),
            found=found,
            where=reference,
            fix=aliases.without_hub(),
        )


def parse(scheme: str, rest: str) -> HubReference:
    """Read what follows `hf:` or `ms:`. Raises `LuhuoError` if owner and name are not both there."""
    place, _, revision = rest.partition("@")
    dataset = place.startswith("datasets/")
    parts = place.removeprefix("datasets/").strip("/").split("/")
    if len(parts) < 2 or not all(parts) or {".", ".."} & set(parts) or "\\" in place:
        raise LuhuoError(
            tr("This reference to a model hub is not complete.", "模型仓库引用不完整。"),
            expected=f"{scheme}:OWNER/NAME, {scheme}:OWNER/NAME/PATH@REVISION, {scheme}:datasets/OWNER/NAME/PATH",
            found=f"{scheme}:{rest}",
        )
    return HubReference(scheme, "/".join(parts[:2]), "/".join(parts[2:]), revision or None, dataset)


def one_gguf(scheme: str, rest: str) -> str:
    """The reference to the one GGUF file below what is named; `LuhuoError` that lists them if there are more."""
    reference = parse(scheme, rest)
    if reference.inner.endswith(".gguf") or any(mark in reference.inner for mark in "*?["):
        return rest
    below = f"{reference.inner}/" if reference.inner else ""
    packed = sorted(n for n in _client(scheme).names(reference) if n.endswith(".gguf") and n.startswith(below))
    first = [name for name in packed if SPLIT.sub(r"-00001-of-\1.gguf", name) == name]
    if len(first) > 1:
        raise _name_one(reference, first)
    return str(replace(reference, inner=first[0])).partition(":")[2] if first else rest


def _name_one(reference: HubReference, packed: list[str]) -> LuhuoError:
    return LuhuoError(
        tr("This repository holds GGUF files: name the one to take.", "该仓库有多个 GGUF 文件：请指明用哪一个。"),
        found=", ".join(packed),
        where=reference,
        fix=f"gguf:{replace(reference, inner=packed[0])}",
    )


def _client(scheme: str) -> ModuleType:
    """The module that speaks with a hub: `snapshot(reference)` and `names(reference)`."""
    from luhuo.files import huggingface, modelscope

    return huggingface if scheme == "hf" else modelscope


def fetch(scheme: str, rest: str, *, weights: bool = True) -> Path:
    """Download what is not in the cache; the path of the file or folder, or the glob. Raises `LuhuoError`."""
    reference = replace(parse(scheme, rest), weights=weights)
    hub = _client(scheme)
    root = hub.snapshot(reference)
    path = root / reference.inner
    if any(mark in reference.inner for mark in "*?["):
        return path
    whole = weights and not reference.inner and not reference.dataset
    if whole and not any(root.rglob("*.safetensors")):
        _refuse_other_weights(reference, hub.names)
    if not path.exists():
        raise missing_file(reference, hub.names)
    return path


def listing(reference: HubReference) -> tuple[str | None, dict[str, int | None]]:
    """(revision, {path: bytes where the hub tells}) of all files of a repository. The revision is the commit that the
    reference stands for now, or, where the hub has no name for it, the one that was asked for."""
    return _client(reference.scheme).listing(reference)


def missing_file(reference: HubReference, names: Callable[[HubReference], list[str]]) -> LuhuoError:
    """The error for a path that the repository does not have, with the nearest one and some that it has."""
    from luhuo.core.config import nearest

    there = names(reference)
    close = nearest(reference.inner, there)
    return LuhuoError(
        tr("The repository has no such file.", "仓库中没有这个文件。"),
        expected=", ".join(sorted(there)[:12]) + (" …" if len(there) > 12 else ""),
        found=reference.inner or None,
        where=reference,
        fix=tr(f"Did you mean “{close}”?", f"是不是“{close}”？") if close else None,
    )


def _refuse_other_weights(reference: HubReference, names: Callable[[HubReference], list[str]]) -> None:
    """A repository without safetensors: say which weights it has. One without weights (a tokenizer) is fine."""
    there = sorted(names(reference))
    packed = [name for name in there if name.endswith(".gguf")]
    pickled = [name for name in there if name.endswith(PICKLES)]
    if packed:
        raise _name_one(reference, packed)
    if pickled:
        raise LuhuoError(
            tr("This repository has only pickled weights.", "该仓库只有 pickle 权重。"),
            expected="*.safetensors",
            found=", ".join(pickled[:6]),
            where=reference,
            fix=tr(
                "Pickled weights can run code and are not fetched: take a repository or a revision with safetensors "
                "(on the Hub, often @refs/pr/1), or convert them.",
                "pickle 权重可执行代码，不予下载：请用带 safetensors 的仓库或版本（常见于 @refs/pr/1），或先转换。",
            ),
        )
