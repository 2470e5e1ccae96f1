"""The filter of system calls, as a program for the kernel's packet filter (seccomp, mode 2; no rights are needed)."""

from __future__ import annotations

import ctypes
import errno
import struct

from . import calls, system

LOAD, EQUAL, GREATER, ANY_BIT, RETURN = 0x20, 0x15, 0x25, 0x45, 0x06
"""Instructions: load a word of the call's data, jump where it equals, is greater, has a bit in common; answer."""

ALLOW, KILL = 0x7FFF0000, 0x80000000
NUMBER, ARCHITECTURE, ARGUMENTS = 0, 4, 16
"""Offsets in the kernel's `struct seccomp_data`; each argument has 8 bytes, the low word first."""

THREAD = 0x00010000
NEW_NAMESPACES = 0x7E020000
SIBLING = 0x00008000
"""Flags of `clone`: a thread of the same process; new namespaces; a child of one's parent."""

SOCKET_STREAM, UNIX = 1, 1
IOCTLS = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)
"""TCGETS, TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX: what Python asks of an open file."""
PRCTLS = (3, 15, 16, 21, 23, 39, 0x53564D41)
"""Dumpable?, the thread's name, seccomp?, capability?, no_new_privs?, names of memory areas."""
FCNTLS_REFUSED = (8, 10, 15, 1024, 1026, 1031)
"""F_SETOWN, F_SETSIG, F_SETOWN_EX (signals to others), F_SETLEASE, F_NOTIFY, F_SETPIPE_SZ (memory)."""

Instruction = tuple[int, int, int, int]
"""(code, jump if true, jump if false, constant)."""


def _refuse(number: int) -> Instruction:
    return (RETURN, 0, 0, 0x00050000 | number)


def _low(argument: int) -> Instruction:
    return (LOAD, 0, 0, ARGUMENTS + 8 * argument)


def _only(argument: int, allowed: tuple[int, ...]) -> list[Instruction]:
    """Allow a call whose argument's low word is one of these."""
    found = [_low(argument)]
    for value in allowed:
        found += [(EQUAL, 0, 1, value), (RETURN, 0, 0, ALLOW)]
    return [*found, _refuse(errno.EPERM)]


def _conditions(own: int | None, processes: bool) -> dict[str, list[Instruction]]:
    """What is looked at in each call of `calls.looked_at`."""
    no_fork = [_refuse(errno.EAGAIN)]
    allowed = [(RETURN, 0, 0, ALLOW)]
    clone = [_low(0), (ANY_BIT, 0, 1, NEW_NAMESPACES | SIBLING), _refuse(errno.EPERM)]
    clone += allowed if processes else [(ANY_BIT, 0, 1, THREAD), *allowed, *no_fork]
    refused = [_low(1)]
    for value in FCNTLS_REFUSED:
        refused += [(EQUAL, 0, 1, value), _refuse(errno.EPERM)]
    pair = [_low(0), (EQUAL, 1, 0, UNIX), _refuse(errno.EPERM)]
    pair += [_low(1), (0x54, 0, 0, 0xF), (EQUAL, 0, 1, SOCKET_STREAM), *allowed, _refuse(errno.EPERM)]
    look_only = [_low(0), (EQUAL, 1, 0, 0), _refuse(errno.EPERM)]  # of itself
    for half in (0, 4):  # and without new values: a null pointer, both words of it
        look_only += [(LOAD, 0, 0, ARGUMENTS + 16 + half), (EQUAL, 1, 0, 0), _refuse(errno.EPERM)]
    signal = allowed if own is None else _only(0, (own,))
    return {
        "clone": clone,
        "clone3": [_refuse(errno.ENOSYS)],  # its flags lie in memory, where a filter cannot look: use clone instead
        "fork": allowed if processes else no_fork,
        "vfork": allowed if processes else no_fork,
        "kill": signal,
        "tgkill": signal,
        "ioctl": _only(1, IOCTLS),
        "prctl": _only(0, PRCTLS),
        "prlimit64": [*look_only, *allowed],
        "fcntl": [*refused, *allowed],
        "socketpair": pair,  # streams only: a datagram socket of a pair can write to any address
    }


def program(machine: str, own: int | None, processes: bool) -> list[Instruction]:
    """The filter. `own`: the process that alone may be signalled (None: any, where there is a namespace of processes);
    `processes`: whether new processes may be made, not only threads."""
    found: list[Instruction] = [
        (LOAD, 0, 0, ARCHITECTURE),
        (EQUAL, 1, 0, calls.MACHINES[machine][1]),
        (RETURN, 0, 0, KILL),  # calls of another mode (32-bit) have other numbers
        (LOAD, 0, 0, NUMBER),
    ]
    for number in calls.plain(machine).values():
        found += [(EQUAL, 0, 1, number), (RETURN, 0, 0, ALLOW)]
    conditions = _conditions(own, processes)
    for name, number in calls.looked_at(machine).items():
        block = conditions[name]
        found += [(EQUAL, 0, len(block), number), *block]
    found += [(GREATER, 0, 1, calls.NEWEST), _refuse(errno.ENOSYS), _refuse(errno.EPERM)]
    return found


def install(machine: str, own: int | None, processes: bool) -> None:
    """Filter the calls of this process from now on, for ever, and of what it starts. `no_new_privs` must be set."""
    instructions = program(machine, own, processes)
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *each) for each in instructions))

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_void_p))

    given = Program(len(instructions), ctypes.addressof(code))
    system.prctl(system.PR_SET_SECCOMP, 2, ctypes.byref(given))
