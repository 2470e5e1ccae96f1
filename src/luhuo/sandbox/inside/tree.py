"""A file tree of its own: an empty root in memory, the interpreter read-only, and one folder that can be written."""

from __future__ import annotations

import os
from collections.abc import Iterable

from . import system

BOX = "/box"
"""The folder of the guest: where it starts, its HOME and its TMPDIR."""

DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")


def build(place: str, readable: Iterable[str], disk: int, files: int, machine: str) -> None:
    """Make the tree at `place` and go into it; the old tree is out of reach afterwards.

    Needs the right to mount. This process and its children alone see the new tree. `disk` bytes and `files` names
    fit into the box.
    """
    system.unshare(system.CLONE_NEWNS)
    system.mount(None, "/", None, system.MS_REC | system.MS_PRIVATE)
    flags = system.MS_NOSUID | system.MS_NODEV
    system.mount("tmpfs", place, "tmpfs", flags, "size=1m,nr_inodes=4096,mode=755")
    for path in readable:
        _show(path, place + path)
    os.makedirs(place + "/dev", exist_ok=True)
    for path in DEVICES:
        if os.path.exists(path):
            _touch(place + path)
            system.mount(path, place + path, None, system.MS_BIND)
    os.mkdir(place + BOX)
    for path in ("/tmp", "/dev/shm"):  # the latter for Python's semaphores
        os.symlink(BOX, place + path)
    system.mount("tmpfs", place + BOX, "tmpfs", flags, f"size={disk},nr_inodes={files + 1},mode=700")
    os.chdir(place)
    system.pivot_root(machine)
    system.unmount(".", system.MNT_DETACH)
    system.mount(None, "/", None, system.MS_BIND | system.MS_REMOUNT | system.MS_RDONLY | flags)
    os.chdir("/")


def _show(path: str, target: str) -> None:
    """A path of the old tree, read-only in the new one; a link stays a link."""
    os.makedirs(os.path.dirname(target), exist_ok=True)
    if os.path.lexists(target):
        return
    if os.path.islink(path):
        os.symlink(os.readlink(path), target)
        return
    if os.path.isdir(path):
        os.mkdir(target)
    else:
        _touch(target)
    system.mount(path, target, None, system.MS_BIND | system.MS_REC)
    system.mount_read_only(target, system.MS_NOSUID | system.MS_NODEV)


def _touch(target: str) -> None:
    os.close(os.open(target, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))


def write_files(box: str, files: dict[str, bytes], owner: tuple[int, int] | None) -> None:
    """Put the guest's files into its box, which is new and empty."""
    for name, content in files.items():
        path = os.path.join(box, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "xb") as handle:
            handle.write(content)
    if owner is not None:
        for folder, _, names in os.walk(box):
            for spot in (folder, *(os.path.join(folder, name) for name in names)):
                os.chown(spot, *owner)
