"""One syntax for inputs: a path, `pypi:NAME==VERSION/INNER#sha256=HEX`, `hf:OWNER/NAME/PATH@REVISION`, `ms:…`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.files import hub, pypi


@dataclass(frozen=True)
class Resolved:
    """A reference made local."""

    path: Path
    """A file, a folder or, for a path written as a glob, the glob."""
    reference: str
    sha256: str | None
    """Digest of the archive a `pypi:` reference pins; None where the caller has to digest what lies at `path`."""


def resolve(reference: str) -> Resolved:
    """Make a reference local: download it unless it is in the cache, check its digest, unpack what is asked for.

    Raises `LuhuoError` if it cannot be found, is not pinned, or differs from its digest.
    """
    scheme, colon, rest = reference.partition(":")
    if colon and scheme == "pypi":
        pinned = pypi.parse(reference)
        return Resolved(pypi.fetch(pinned), reference, pinned.sha256)
    if colon and scheme in hub.HUBS:
        return Resolved(hub.fetch(scheme, rest), reference, None)
    path = Path(reference).expanduser()
    if not path.exists() and not any(mark in reference for mark in "*?["):
        raise LuhuoError(
            tr("There is no such file or folder.", "没有这个文件或目录。"),
            expected=tr(
                "a path, or pypi:NAME==VERSION/INNER#sha256=HEX, hf:OWNER/NAME/PATH, ms:OWNER/NAME/PATH",
                "路径，或 pypi:名称==版本/内部路径#sha256=摘要、hf:所有者/名称/路径、ms:所有者/名称/路径",
            ),
            where=reference,
        )
    return Resolved(path, reference, None)
