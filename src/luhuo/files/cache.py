"""The cache of downloaded archives and what was unpacked from them."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """`LUHUO_CACHE`, else `~/.cache/luhuo`."""
    return Path(os.environ.get("LUHUO_CACHE") or Path.home() / ".cache" / "luhuo").expanduser()
