"""Writing safetensors so that a full disk is an operating-system error like any other."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

OS_ERROR = re.compile(r"\(os error (\d+)\)")
"""How the library tells the number of an error of the operating system, in a text of its own."""


def save_file(tensors: Mapping[str, Tensor], path: Path, metadata: dict[str, str] | None = None) -> None:
    """Write tensors (contiguous, on the CPU); they are on the disk when this returns.

    Raises `OSError` if they cannot be written; what was begun is removed.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file as write

    try:
        write(dict(tensors), path, metadata)
        with path.open("rb") as handle:
            os.fsync(handle.fileno())
    except SafetensorError as error:
        path.unlink(missing_ok=True)
        found = OS_ERROR.search(str(error))
        if found is None:
            raise
        raise OSError(int(found[1]), os.strerror(int(found[1])), str(path)) from error
