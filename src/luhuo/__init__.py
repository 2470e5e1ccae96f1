"""Luhuo 炉火: from raw text to a chatting, measured assistant.

Importing this is light: torch and the rooms of the house load on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from luhuo.adapter.open import open_model as load
    from luhuo.evaluation.api import evaluate
    from luhuo.inference.engine import Engine
    from luhuo.inference.sampling import Sampling
    from luhuo.recipe.runner import run

__version__ = "0.1.0"
__all__ = ["Engine", "Sampling", "__version__", "evaluate", "load", "run"]

_HOME = {
    "Engine": "luhuo.inference.engine",
    "Sampling": "luhuo.inference.sampling",
    "evaluate": "luhuo.evaluation.api",
    "load": "luhuo.adapter.open:open_model",
    "run": "luhuo.recipe.runner",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        module, _, there = _HOME[name].partition(":")
        return getattr(import_module(module), there or name)
    raise AttributeError(f"module 'luhuo' has no attribute {name!r}")
