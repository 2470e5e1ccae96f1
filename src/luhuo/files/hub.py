"""`hf:` and `ms:` references, through the hubs' own clients (which keep their own caches and offline switches)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from luhuo.core.errors import LuhuoError, missing_extra
from luhuo.core.language import tr

HUBS = ("hf", "ms")


@dataclass(frozen=True)
class HubReference:
    """OWNER/NAME with an optional path inside and revision; `datasets/` in front names a data set."""

    repository: str
    inner: str
    revision: str | None
    dataset: bool


def parse(rest: str) -> HubReference:
    """Read what follows `hf:` or `ms:`. Raises `LuhuoError` if owner and name are not both there."""
    place, _, revision = rest.partition("@")
    dataset = place.startswith("datasets/")
    parts = place.removeprefix("datasets/").strip("/").split("/")
    if len(parts) < 2 or not all(parts) or ".." in parts:
        raise LuhuoError(
            tr("This reference to a model hub is not complete.", "模型仓库引用不完整。"),
            expected="hf:OWNER/NAME, hf:OWNER/NAME/PATH@REVISION, hf:datasets/OWNER/NAME/PATH",
            found=rest,
        )
    return HubReference("/".join(parts[:2]), "/".join(parts[2:]), revision or None, dataset)


def fetch(scheme: str, rest: str) -> Path:
    """Download what is not in the hub client's cache; the path of the file or folder. Raises `LuhuoError`."""
    reference = parse(rest)
    patterns = [reference.inner, f"{reference.inner}/**"] if reference.inner else None
    download = _huggingface if scheme == "hf" else _modelscope
    try:
        root = Path(download(reference, patterns))
    except LuhuoError:
        raise
    except Exception as error:  # the clients raise dozens of kinds: network, access, missing, offline
        raise LuhuoError(
            tr("The hub did not deliver.", "模型仓库没有提供该内容。"),
            found=f"{type(error).__name__}: {error}",
            where=f"{scheme}:{rest}",
            fix=tr("Check name, revision, access and network.", "检查名称、版本、权限和网络。"),
        ) from error
    path = root / reference.inner
    if any(mark in reference.inner for mark in "*?["):
        return path
    if not path.exists():
        raise LuhuoError(
            tr("The repository has no such file.", "仓库中没有这个文件。"),
            found=reference.inner,
            where=f"{scheme}:{rest}",
        )
    return path


def _huggingface(reference: HubReference, patterns: list[str] | None) -> str:
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise missing_extra("huggingface-hub", "hub") from None
    return snapshot_download(
        reference.repository,
        repo_type="dataset" if reference.dataset else "model",
        revision=reference.revision,
        allow_patterns=patterns,
    )


def _modelscope(reference: HubReference, patterns: list[str] | None) -> str:
    try:
        from modelscope.hub import snapshot_download as client  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise missing_extra("modelscope", "hub") from None
    download = client.dataset_snapshot_download if reference.dataset else client.snapshot_download
    return download(reference.repository, revision=reference.revision, allow_patterns=patterns)
