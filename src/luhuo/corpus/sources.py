"""What the stages that read raw text share about its sources."""

from __future__ import annotations

import re

from luhuo.core import digest
from luhuo.core.artifact import Workspace, owner
from luhuo.files.readers import list_files
from luhuo.files.references import Resolved

LANGUAGE_CODE = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]+)*")
"""A language code in a record that is believed."""


def name_source(name: str, licence: str, resolved: Resolved, out: Workspace) -> None:
    """Tell the manifest where the text comes from. What another stage made is named there already."""
    if resolved.sha256 is None and owner(resolved.path.absolute()):
        return
    files = list_files(resolved.path)
    sha = resolved.sha256 or (
        digest.path_digest(resolved.path)
        if resolved.path.exists()
        else digest.value_digest([digest.file_digest(f) for f in files])
    )
    out.sources.append(
        {
            "name": name,
            "reference": resolved.reference,
            "sha256": sha,
            "licence": licence,
            "bytes": sum(f.stat().st_size for f in files),
        }
    )
