"""The Hugging Face hub through its own client, so that its cache, token and mirror settings are those of the user.

`HF_ENDPOINT`, `HF_TOKEN`, `HF_HOME`, `HF_HUB_CACHE`, `HF_HUB_OFFLINE` and the proxy variables are the client's. What
it does not do is added here: large files are checked against their SHA-256, and every failure is one clear message.
"""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from luhuo.core.errors import LuhuoError, missing_extra
from luhuo.core.language import tr
from luhuo.files import aliases, hub, transport, verified
from luhuo.files.cache import cache_folder

CACHE_VARIABLES = ("HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE")
REFUSED = (401, 403)
ABSENT = (404, 410)


def snapshot(reference: hub.HubReference) -> Path:
    """The folder with the files of the reference, downloaded unless they are in the client's cache."""
    damaged = None
    for _ in range(2):  # a second time without the damaged files
        try:
            root = Path(_download(reference))
        except ImportError:
            raise missing_extra("huggingface-hub", "hub") from None
        except Exception as error:  # the client raises its own, its HTTP library's and the system's kinds
            raise _explained(error, reference) from error
        damaged = _drop_damaged(root, reference)
        if damaged is None:
            return root
    raise LuhuoError(
        tr("A downloaded file differs from its digest.", "下载的文件与摘要不符。"),
        found=damaged,
        where=reference,
        fix=tr("Nothing of it was kept; check the mirror.", "没有保留；请检查镜像。"),
    )


def names(reference: hub.HubReference) -> list[str]:
    """The paths of all files of the repository; where downloads are switched off, of those in the cache."""
    try:
        from huggingface_hub import HfApi

        if transport.offline():
            root = Path(_download(replace(reference, inner="nothing but the folder")))
            return [path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()]
        api = HfApi(endpoint=_endpoint())
        ask = api.dataset_info if reference.dataset else api.model_info
        return [file.rfilename for file in ask(reference.repository, revision=reference.revision).siblings or []]
    except ImportError:
        raise missing_extra("huggingface-hub", "hub") from None
    except Exception as error:  # as above
        raise _explained(error, reference) from error


def listing(reference: hub.HubReference) -> tuple[str | None, dict[str, int | None]]:
    """The commit and {path: bytes} of all files; where downloads are switched off, of those in the cache."""
    if transport.offline():
        return reference.revision, dict.fromkeys(names(reference))
    try:
        from huggingface_hub import HfApi

        api = HfApi(endpoint=_endpoint())
        ask = api.dataset_info if reference.dataset else api.model_info
        told = ask(reference.repository, revision=reference.revision, files_metadata=True)
    except ImportError:
        raise missing_extra("huggingface-hub", "hub") from None
    except Exception as error:  # as above
        raise _explained(error, reference) from error
    return told.sha, {file.rfilename: file.size for file in told.siblings or []}


def _endpoint() -> str | None:
    return os.environ.get("HF_ENDPOINT") or None


def _kind(reference: hub.HubReference) -> str:
    return "dataset" if reference.dataset else "model"


def _cache() -> str | None:
    """The client's own cache, which other programs share; below `LUHUO_CACHE` where only that is set."""
    if not os.environ.get("LUHUO_CACHE") or any(os.environ.get(name) for name in CACHE_VARIABLES):
        return None
    return str(cache_folder() / "huggingface")


def _download(reference: hub.HubReference) -> str:
    from huggingface_hub import snapshot_download

    return snapshot_download(
        reference.repository,
        repo_type=_kind(reference),
        revision=reference.revision,
        cache_dir=_cache(),
        endpoint=_endpoint(),
        local_files_only=transport.offline(),
        allow_patterns=reference.patterns,
        ignore_patterns=reference.ignored or None,
        tqdm_class=None if sys.stderr.isatty() else _plain_bar(),
    )


def _plain_bar() -> type[Any]:
    """The client's progress bar as a plain line every ten seconds, for logs."""
    from huggingface_hub.utils import tqdm

    class Plain(tqdm):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **(kwargs | {"mininterval": 10, "leave": False, "dynamic_ncols": False}))

        @staticmethod
        def status_printer(file: Any) -> Any:
            return lambda line: print(line.strip(), file=file, flush=True) if line.strip() else None

    return Plain


def _drop_damaged(root: Path, reference: hub.HubReference) -> str | None:
    """Check what is stored under its SHA-256; remove what differs, from the cache too, and name one of it."""
    damaged = None
    for path in root.rglob("*"):
        stored = path.resolve()
        wanted = reference.chosen([path.relative_to(root).as_posix()])
        pinned = wanted and stored.is_file() and re.fullmatch(r"[0-9a-f]{64}", stored.name)
        if pinned and not verified.is_right(stored, stored.name):
            damaged = wanted[0]
            path.unlink()
            stored.unlink(missing_ok=True)
    return damaged


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _explained(error: Exception, reference: hub.HubReference) -> Exception:
    """The client's exception as one message; a full disk stays what it is."""
    from huggingface_hub import constants
    from huggingface_hub.errors import (
        GatedRepoError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    host = transport.public(_endpoint() or constants.ENDPOINT)
    chain = list(_chain(error))
    for cause in chain:
        if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
            return cause
    codes = [getattr(getattr(e, "response", None), "status_code", None) for e in chain]
    code = next((c for c in codes if c is not None), None)
    first = transport.public(": ".join([type(error).__name__, *str(error).strip().splitlines()[:1]]))
    if any(isinstance(e, RevisionNotFoundError) for e in chain):
        return _refusal(tr("The repository has no such revision.", "仓库没有这个版本。"), reference, first)
    if any(isinstance(e, GatedRepoError) for e in chain) or code == 403:
        problem = tr("The owner of this repository asks for permission.", "该仓库需要所有者许可。")
        page = f"{host}/{reference.repository}"
        fix = tr(
            f"Accept the conditions at {page}, then set HF_TOKEN to a token of that account.",
            f"在 {page} 接受条款，然后把 HF_TOKEN 设为该账号的令牌。",
        )
        return _refusal(problem, reference, first, fix)
    if any(isinstance(e, RepositoryNotFoundError) for e in chain) or code in (*REFUSED, *ABSENT):
        problem = tr("The hub shows no such repository.", "仓库不存在或不可见。")
        fix = tr(
            "Check owner and name; if it is private, set HF_TOKEN.",
            "检查所有者与名称；若为私有仓库，请设置 HF_TOKEN。",
        )
        return _refusal(problem, reference, first, fix)
    if code is not None and code < 500 and code != 429:
        return _refusal(tr("The hub refused.", "模型仓库拒绝了请求。"), reference, first)
    if transport.offline() or constants.HF_HUB_OFFLINE:
        return LuhuoError(
            tr("This is not in the cache, and downloads are switched off.", "缓存中没有，且已禁止下载。"),
            found="LUHUO_OFFLINE" if transport.offline() else "HF_HUB_OFFLINE",
            where=reference,
            fix=aliases.without_hub(),
        )
    if isinstance(error, ValueError) and not isinstance(error, LocalEntryNotFoundError):
        return _refusal(tr("The repository has no such file.", "仓库中没有这个文件。"), reference, first)
    return hub.Unreachable(reference, host, f"HTTP {code}" if code else first)


def _refusal(problem: str, reference: hub.HubReference, found: str, fix: str | None = None) -> LuhuoError:
    return LuhuoError(problem, found=found, where=reference, fix=fix)
