"""The directory of a proxy-tuned model: a proxy.json that names three models, and no weights of its own."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

from luhuo.core.atomic import write_json
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr

CONFIG = "proxy.json"
NAMES = ("model", "tuned", "base")
"""The large model, and the small one after and before its tuning."""
MOST_BYTES = 1 << 16


def is_proxy(path: str | Path) -> bool:
    """Whether this is the directory of a proxy-tuned model."""
    return (Path(path) / CONFIG).is_file()


def write_proxy(folder: Path, references: dict[str, str], alpha: float) -> None:
    """Write proxy.json. Paths are kept relative to `folder`, so that what lies side by side can be moved together."""
    named = {
        name: Path(os.path.relpath(reference, folder)).as_posix() if Path(reference).exists() else reference
        for name, reference in references.items()
    }
    write_json(folder / CONFIG, named | {"alpha": alpha})


def read_proxy(path: str | Path) -> tuple[dict[str, str], float]:
    """(references by name, alpha). Raises `LuhuoError` for a file that does not say them."""
    file = Path(path) / CONFIG
    try:
        with file.open("rb") as handle:
            values: Any = json.loads(handle.read(MOST_BYTES))
    except (ValueError, RecursionError) as error:
        raise _wrong(file, str(error)) from None
    if not isinstance(values, dict) or values.keys() != {*NAMES, "alpha"}:
        raise _wrong(file, ", ".join(map(str, values)) if isinstance(values, dict) else type(values).__name__)
    alpha = values["alpha"]
    if not all(isinstance(values[name], str) and values[name] for name in NAMES):
        raise _wrong(file, str({name: values[name] for name in NAMES})[:200])
    if isinstance(alpha, bool) or not isinstance(alpha, (int, float)) or not math.isfinite(alpha):
        raise _wrong(file, f"alpha: {alpha!r}")
    return {name: _place(file.parent, values[name]) for name in NAMES}, float(alpha)


def _place(folder: Path, reference: str) -> str:
    """A reference as it can be opened from here: what lies beside the folder, or anything else as it stands."""
    beside = folder / reference
    return str(beside) if beside.exists() else reference


def _wrong(file: Path, found: str) -> LuhuoError:
    return LuhuoError(
        tr("This is no description of a proxy-tuned model.", "这不是代理调优模型的描述文件。"),
        expected='{"model": "…", "tuned": "…", "base": "…", "alpha": 1.0}',
        found=found,
        where=file,
    )
