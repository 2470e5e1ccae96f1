"""Landlock: a process gives up all files but some, and all TCP, for ever; no rights are needed (Linux 5.13)."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterable

from . import system

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1, 2, 4, 8
TRUNCATE, IOCTL_DEVICE = 1 << 14, 1 << 15
OF_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEVICE
"""Rights that a rule for a single file may hold."""


def version() -> int:
    """The version of the kernel's interface; 0 where there is none."""
    try:
        return system.call(system.LANDLOCK_CREATE_RULESET, None, 0, 1)
    except OSError:
        return 0


def all_rights(version: int) -> int:
    """Every right to files that this version knows."""
    return (1 << {1: 13, 2: 14, 3: 15, 4: 15}.get(version, 16)) - 1


def restrict(readable: Iterable[str], writable: Iterable[str]) -> None:
    """Leave this process reading (and running) below `readable` and everything below `writable`, nothing else.

    Also refuses TCP (version 4), abstract Unix sockets and signals to processes outside (version 6). Must be called
    with `no_new_privs`. Raises OSError where the kernel has no Landlock.
    """
    known = version()
    everything = all_rights(known)
    fields = [everything, *([3] if known >= 4 else []), *([3] if known >= 6 else [])]  # files, TCP, scopes
    attributes = ctypes.create_string_buffer(struct.pack(f"={len(fields)}Q", *fields), 8 * len(fields))
    rules = system.call(system.LANDLOCK_CREATE_RULESET, attributes, 8 * len(fields), 0)
    try:
        for path in readable:
            _allow(rules, path, (EXECUTE | READ_FILE | READ_DIR) & everything)
        for path in writable:
            _allow(rules, path, everything)
        system.call(system.LANDLOCK_RESTRICT_SELF, rules, 0)
    finally:
        os.close(rules)


def _allow(rules: int, path: str, rights: int) -> None:
    spot = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        rights &= -1 if os.path.isdir(path) else OF_FILES
        rule = ctypes.create_string_buffer(struct.pack("=Qi", rights, spot), 12)
        system.call(system.LANDLOCK_ADD_RULE, rules, 1, rule, 0)
    finally:
        os.close(spot)
