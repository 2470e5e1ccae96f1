"""The kernel's calls that Python has no function for, through the C library; each raises OSError where it fails."""

from __future__ import annotations

import ctypes
import os

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC = 0x00020000, 0x04000000, 0x08000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT = 1, 2, 4, 8, 32
MS_BIND, MS_REC, MS_PRIVATE = 4096, 16384, 1 << 18
MS_NOATIME, MS_NODIRATIME, MS_RELATIME = 1024, 2048, 1 << 21
MNT_DETACH = 2

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_CAPBSET_DROP = 1, 4, 22, 24
PR_SET_SECUREBITS, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT = 28, 36, 38, 47
PR_CAP_AMBIENT_CLEAR_ALL = 4
SECURE_NO_ROOT = 0b1111
"""User 0 has no rights of its own, and neither bit can be taken back (NOROOT, NO_SETUID_FIXUP, both locked)."""

CAP_CHOWN, CAP_SETGID, CAP_SETUID = 0, 6, 7

MOUNT_SETATTR, PIVOT_ROOT = 442, {"x86_64": 155, "aarch64": 41, "arm64": 41}
LANDLOCK_CREATE_RULESET, LANDLOCK_ADD_RULE, LANDLOCK_RESTRICT_SELF = 444, 445, 446
_ST_RELATIME = 4096
_AT_RECURSIVE, _AT_FDCWD = 0x8000, -100
_CAPABILITY_VERSION = 0x20080522

libc = ctypes.CDLL(None, use_errno=True)


def call(number: int, *arguments: object) -> int:
    """A system call by number. Integers are passed as longs, bytes and structures by address."""
    return _checked(libc.syscall(ctypes.c_long(number), *map(_passed, arguments)))


def prctl(option: int, *arguments: object) -> int:
    """`prctl(2)`."""
    given = [*arguments, 0, 0, 0, 0][:4]
    return _checked(libc.prctl(option, *map(_passed, given)))


def unshare(flags: int) -> None:
    """`unshare(2)`: leave namespaces of the parent for new ones."""
    _checked(libc.unshare(flags))


def mount(source: str | None, target: str, kind: str | None, flags: int, options: str = "") -> None:
    """`mount(2)`."""
    texts = [None if text is None else os.fsencode(text) for text in (source, target, kind)]
    _checked(libc.mount(*texts, ctypes.c_ulong(flags), options.encode()), target)


def unmount(target: str, flags: int) -> None:
    """`umount2(2)`."""
    _checked(libc.umount2(os.fsencode(target), flags), target)


def mount_read_only(target: str, flags: int) -> None:
    """Make a bound tree and all mounts below it read-only, with `flags` besides (Linux 5.12; the top alone before)."""
    attributes = (ctypes.c_uint64 * 4)(flags | MS_RDONLY, 0, 0, 0)  # set, clear, propagation, user namespace
    try:
        call(MOUNT_SETATTR, _AT_FDCWD, os.fsencode(target), _AT_RECURSIVE, ctypes.byref(attributes), 32)
    except OSError:
        held = os.statvfs(target).f_flag  # what a mount has already must stay, or the kernel refuses the change
        kept = held & (MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_NOATIME | MS_NODIRATIME)
        kept |= MS_RELATIME if held & _ST_RELATIME else 0
        mount(None, target, None, MS_BIND | MS_REMOUNT | MS_RDONLY | flags | kept)


def pivot_root(machine: str) -> None:
    """Make the current folder the root of the file tree; the old root is mounted over it until it is detached."""
    call(PIVOT_ROOT[machine], b".", b".")


def drop_bounding_set() -> None:
    """No program that is started from here on gains a capability, whoever runs it and whatever its file says."""
    for capability in range(64):
        try:
            prctl(PR_CAPBSET_DROP, capability)
        except OSError:
            break  # beyond the last one, or an ordinary user, who has none to pass on


def drop_capabilities() -> None:
    """Give up all capabilities."""
    drop_bounding_set()
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
    _checked(libc.capset(ctypes.byref(header), ctypes.byref((ctypes.c_uint32 * 6)())))


def capabilities() -> int:
    """The capabilities in force, as bits."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as lines:
        return next((int(line.split()[1], 16) for line in lines if line.startswith("CapEff:")), 0)


def mapped(name: str) -> list[range]:
    """The users (`uid_map`) or groups (`gid_map`) that exist in this namespace."""
    with open(f"/proc/self/{name}", encoding="ascii") as lines:
        entries = [tuple(map(int, line.split())) for line in lines]
    return [range(first, first + count) for first, _, count in entries]


def _passed(value: object) -> object:
    return ctypes.c_long(value) if isinstance(value, int) else value


def _checked(result: int, what: str | None = None) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)
    return result
