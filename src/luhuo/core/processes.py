"""Which process of a run this is, when `torchrun` started several. No torch is needed to know."""

from __future__ import annotations

import os


def rank() -> int:
    """The number `torchrun` gave this process; 0 for a process of its own."""
    return int(os.environ.get("RANK", "0"))


def count() -> int:
    """How many processes `torchrun` started; 1 for a process of its own."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main() -> bool:
    """Whether this process speaks for all, and owns what is written."""
    return rank() == 0
