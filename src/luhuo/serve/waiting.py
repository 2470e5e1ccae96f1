"""How threads that compute wait for one another in a server, which shares its cores with clients and its own HTTP."""

from __future__ import annotations

import os
from collections.abc import MutableMapping

SPINS = 1000
"""Looks at the others before a waiting thread sleeps: some 15 to 50 microseconds, by the processor."""
MILLISECONDS = 0
"""The same for LLVM's and Intel's OpenMP, which counts in whole milliseconds."""


def wait_briefly(environment: MutableMapping[str, str] = os.environ) -> None:
    """Have OpenMP's threads sleep soon when they wait, where the user has said nothing. Before torch is imported.

    GNU's looks 300,000 times, which is several milliseconds: in a step of 150 meetings of two threads, one of which
    another program has pushed from its core, the other then holds its own core all that time, and between steps too.
    A thread that sleeps leaves the core to whoever has work, the pushed thread before all.
    """
    if "OMP_WAIT_POLICY" in environment:
        return
    environment.setdefault("GOMP_SPINCOUNT", str(SPINS))
    environment.setdefault("KMP_BLOCKTIME", str(MILLISECONDS))
