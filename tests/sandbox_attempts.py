"""Attempts to get out of the sandbox. This file is the guest's program: it reads from standard input which attempts
to make and where the prizes lie, and says how each one went.

An attempt returns what it got hold of; it returns nothing, or raises, where it was held back. Run outside the sandbox
(each in a process of its own), all that are harmless and possible on the machine succeed.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import platform
import resource
import socket
import struct
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

World = dict[str, Any]
X86 = platform.machine() == "x86_64"
LIBC = ctypes.CDLL(None, use_errno=True)
NUMBERS = {  # x86_64, aarch64
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "memfd_create": (319, 279),
    "io_uring_setup": (425, 425),
    "add_key": (248, 217),
    "keyctl": (250, 219),
    "setns": (308, 268),
    "pidfd_open": (434, 434),
    "open_by_handle_at": (304, 265),
    "shmget": (29, 194),
    "mount": (165, 40),
    "unshare": (272, 97),
    "clone3": (435, 435),
    "personality": (135, 92),
    "finit_module": (313, 273),
    "kexec_file_load": (320, 294),
    "mknodat": (259, 33),
    "seccomp": (317, 277),
    "socket": (41, 198),
    "name_to_handle_at": (303, 264),
    "inotify_init1": (294, 26),
    "swapon": (167, 224),
    "sethostname": (170, 161),
    "syslog": (103, 116),
}


def call(name: str, *arguments: Any) -> int:
    """A system call by its number, past everything that Python checks."""
    given = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    result = LIBC.syscall(ctypes.c_long(NUMBERS[name][0 if X86 else 1]), *given)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def read_a_file_outside(world: World) -> object:
    return Path(world["secret"]).read_text()


def read_through_a_symbolic_link(world: World) -> object:
    Path("link").symlink_to(world["secret"])
    return Path("link").read_text()


def read_through_a_hard_link(world: World) -> object:
    os.link(world["secret"], Path(world["box"]) / "hard")
    return (Path(world["box"]) / "hard").read_text()


def read_the_passwords(world: World) -> object:
    return Path("/etc/shadow").read_text()


def list_the_home_folder(world: World) -> object:
    return list(Path(world["home"]).iterdir())


def read_the_environment(world: World) -> object:
    return os.environ.get("LUHUO_TEST_SECRET")


def read_own_environment_from_proc(world: World) -> object:
    return b"LUHUO_TEST_SECRET" in Path("/proc/self/environ").read_bytes()


def read_the_parents_environment(world: World) -> object:
    return Path(f"/proc/{world['pid']}/environ").read_bytes()


def read_the_parents_command(world: World) -> object:
    return Path(f"/proc/{world['pid']}/cmdline").read_bytes()


def open_the_parents_memory(world: World) -> object:
    return Path(f"/proc/{world['pid']}/mem").open("rb")


def go_through_the_parents_root(world: World) -> object:
    return Path(f"/proc/{world['pid']}/root{world['secret']}").read_text()


def list_all_processes(world: World) -> object:
    return list(Path("/proc").iterdir())


def write_a_file_outside(world: World) -> object:
    return Path(world["outside"], "written").write_text("x")


def read_what_others_share_in_memory(world: World) -> object:
    return Path("/dev/shm", world["mark"]).read_text()


def change_the_interpreters_library(world: World) -> object:
    return Path(os.__file__).open("a")


def open_sockets_of_every_family(world: World) -> object:
    opened = []
    for family in range(46):
        for kind in (1, 2, 3, 5):
            try:
                opened.append((family, kind, call("socket", family, kind, 0)))
            except OSError:
                continue
    return opened


def connect_to_this_machine(world: World) -> object:
    return socket.create_connection(("127.0.0.1", world["port"]), timeout=2)


def connect_to_a_socket_file(world: World) -> object:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(world["socket"])
        return "connected"


def connect_to_an_abstract_socket(world: World) -> object:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect("\0" + world["mark"])
        return "connected"


def send_from_a_pair_to_an_abstract_socket(world: World) -> object:
    one, _ = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    return one.sendto(b"hello", "\0" + world["mark"] + "-datagrams")


def look_up_a_name(world: World) -> object:
    return socket.getaddrinfo("localhost", 80)


def signal_the_parent(world: World) -> object:
    os.kill(world["pid"], 0)
    return "allowed"


def signal_everyone(world: World) -> object:
    os.kill(-1, 0)
    return "allowed"


def signal_a_neighbour(world: World) -> object:
    os.kill(world["neighbour"], 15)
    return "sent"


def trace_a_neighbour(world: World) -> object:
    call("ptrace", 0x4206, world["neighbour"], 0, 0)  # PTRACE_SEIZE
    return "attached"


def read_a_neighbours_memory(world: World) -> object:
    buffer = ctypes.create_string_buffer(8)
    here = struct.pack("PN", ctypes.addressof(buffer), 8)
    there = struct.pack("PN", int(world["address"]), 8)
    return call("process_vm_readv", world["neighbour"], here, 1, there, 1, 0)


def take_a_handle_of_the_parent(world: World) -> object:
    return call("pidfd_open", world["pid"], 0)


def find_inherited_files(world: World) -> object:
    found = []
    for number in range(world["first_unknown"], 1024):
        try:
            os.fstat(number)
            found.append(number)
        except OSError:
            continue
    return found


def write_into_the_report(world: World) -> object:
    written = []
    for number in range(4, 64):
        try:
            written.append(os.write(number, b'{"code": 0, "verdict": "", "missing": []}\n'))
        except OSError:
            continue
    return written


def leave_a_changed_root(world: World) -> object:
    Path("jail").mkdir()
    top = os.open(".", os.O_RDONLY)
    os.chroot("jail")
    os.fchdir(top)
    for _ in range(50):
        os.chdir("..")
    os.chroot(".")
    return Path(world["secret"]).read_text()


def climb_out_with_dots(world: World) -> object:
    return Path("../" * 40 + world["secret"].lstrip("/")).read_text()


def mount_a_file_system(world: World) -> object:
    return call("mount", b"proc", world["box"].encode(), b"proc", 0, 0) == 0


def become_root_of_a_new_namespace(world: World) -> object:
    return call("unshare", 0x10000000) == 0


def clone_into_a_new_namespace(world: World) -> object:
    arguments = struct.pack("8Q", 0x10000000, 0, 0, 0, 17, 0, 0, 0)
    child = call("clone3", arguments, len(arguments))
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    return "made"


def join_the_parents_namespace(world: World) -> object:
    there = os.open(f"/proc/{world['pid']}/ns/net", os.O_RDONLY)
    return call("setns", there, 0) == 0


def become_root(world: World) -> object:
    os.setresuid(0, 0, 0)
    return os.geteuid() == 0 and Path(world["private"]).read_text()


def keep_capabilities(world: World) -> object:
    header, data = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    LIBC.capget(ctypes.byref(header), ctypes.byref(data))
    return any(data)


def run_a_shell(world: World) -> object:
    child = os.posix_spawn("/bin/sh", ["sh", "-c", "exit 7"], {})
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def make_a_device(world: World) -> object:
    call("mknodat", -100, world["box"].encode() + b"/device", 0o600 | 0x2000, os.makedev(1, 8))
    return "made"


def open_devices(world: World) -> object:
    found = []
    for name in (
        "/dev/mem",
        "/dev/kmsg",
        "/dev/tty",
        "/dev/ptmx",
        "/dev/fuse",
        "/dev/kvm",
        "/dev/net/tun",
    ):
        try:
            os.close(os.open(name, os.O_RDONLY | os.O_NONBLOCK))
            found.append(name)
        except OSError:
            continue
    return found


def raise_own_limits(world: World) -> object:
    most = resource.RLIM_INFINITY
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    return "raised"


def make_core_dumps(world: World) -> object:
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    return (
        hard == resource.RLIM_INFINITY or hard > 4096 or soft == 0
    )  # 0 does not hold back a program that takes dumps


def use_io_uring(world: World) -> object:
    return call("io_uring_setup", 4, ctypes.create_string_buffer(256)) >= 0


def use_the_keyring(world: World) -> object:
    return call("add_key", b"user", world["mark"].encode(), b"x", 1, -2) > 0


def look_at_the_keyring(world: World) -> object:
    return call("keyctl", 0, -3, 1) > 0


def load_a_program_into_the_kernel(world: World) -> object:
    return call("bpf", 0, struct.pack("IIII", 2, 4, 8, 1).ljust(128, b"\0"), 128) >= 0


def count_events_of_the_processor(world: World) -> object:
    attributes = struct.pack("IIQ", 1, 112, 0).ljust(112, b"\0")
    return call("perf_event_open", attributes, 0, -1, -1, 0) >= 0


def handle_page_faults(world: World) -> object:
    return call("userfaultfd", 1) >= 0


def hide_memory_in_a_file(world: World) -> object:
    return call("memfd_create", b"x", 0) >= 0


def hide_memory_in_a_segment(world: World) -> object:
    segment = call("shmget", 0, 4096, 0o600)
    LIBC.shmctl(segment, 0, None)
    return "made"


def watch_files(world: World) -> object:
    return call("inotify_init1", 0) >= 0


def change_the_machines_name(world: World) -> object:
    return call("sethostname", os.uname().nodename.encode(), len(os.uname().nodename)) == 0


def read_the_kernels_log(world: World) -> object:
    return call("syslog", 10, None, 0) >= 0


def open_a_file_by_its_handle(world: World) -> object:
    handle, place = ctypes.create_string_buffer(struct.pack("Ii", 128, 0), 136), ctypes.c_int()
    call("name_to_handle_at", -100, b"/", handle, ctypes.byref(place), 0)
    return call("open_by_handle_at", -100, handle, 0) >= 0


def change_the_personality(world: World) -> object:
    return call("personality", 0x0040000) >= 0  # no randomised addresses


def load_a_module(world: World) -> object:
    try:
        return call("finit_module", -1, b"", 0) == 0
    except OSError as error:
        return "reached the kernel" if error.errno == 9 else None  # EBADF: all other checks were passed


def filter_calls_anew(world: World) -> object:
    LIBC.prctl(38, 1, 0, 0, 0)
    allow = ctypes.create_string_buffer(struct.pack("=HBBI", 0x06, 0, 0, 0x7FFF0000))
    given = struct.pack("HxxxxxxP", 1, ctypes.addressof(allow))
    return call("seccomp", 1, 0, given) == 0


def call_in_32_bit_mode(world: World) -> object:
    """getpid by its number of the 32-bit mode, which a filter of 64-bit numbers alone would take for writev."""
    if not X86:
        return None
    memory = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    memory.write(b"\xb8\x14\x00\x00\x00\xcd\x80\xc3")  # mov eax, 20; int 0x80; ret
    function = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(memory)))
    return function() == os.getpid()


def signal_through_a_files_owner(world: World) -> object:
    import fcntl

    pipe = os.pipe()
    try:
        return fcntl.fcntl(pipe[0], 8, world["pid"]) == 0  # F_SETOWN: SIGIO goes to the parent
    finally:
        for end in pipe:
            os.close(end)


def make_many_threads(world: World) -> object:
    until = threading.Event()
    made = 0
    try:
        for _ in range(100):
            threading.Thread(target=until.wait, daemon=True).start()
            made += 1
    except RuntimeError:
        return None
    finally:
        until.set()
    return made


def make_many_files(world: World) -> object:
    for number in range(3000):
        Path(world["box"], f"f{number}").touch()
    return "made"


def start_with_a_huge_command_line(world: World) -> object:
    os.execv(sys.executable, [sys.executable, "-c", "", *["x" * 100_000] * 400])
    return "started"


NOT_HARMLESS = (
    "mount_a_file_system",
    "become_root_of_a_new_namespace",
    "clone_into_a_new_namespace",
    "make_many_files",
    "write_into_the_report",
)
NEEDS_RIGHTS = (
    "trace_a_neighbour",
    "read_a_neighbours_memory",
    "change_the_interpreters_library",
    "read_the_passwords",
    "leave_a_changed_root",
    "join_the_parents_namespace",
    "become_root",
    "keep_capabilities",
    "make_a_device",
    "load_a_program_into_the_kernel",
    "count_events_of_the_processor",
    "change_the_machines_name",
    "read_the_kernels_log",
    "open_a_file_by_its_handle",
    "raise_own_limits",
)
"""What an ordinary user cannot do outside either, on most machines."""
DEPENDS = (
    "load_a_module",
    "call_in_32_bit_mode",
    "use_io_uring",
    "handle_page_faults",
    "look_up_a_name",
    "open_devices",
    "start_with_a_huge_command_line",
    "make_core_dumps",
    "look_at_the_keyring",
    "use_the_keyring",
)
"""What this machine may not have or not allow."""

ATTEMPTS: dict[str, Callable[[World], object]] = {
    name: value
    for name, value in list(globals().items())
    if callable(value) and getattr(value, "__module__", "") == __name__ and name not in ("call", "World")
}


def main() -> None:
    given = json.load(sys.stdin)
    for name in given["names"]:
        print(json.dumps([name, "tried"]), flush=True)
        try:
            got = ATTEMPTS[name](given["world"])
            line = f"ESCAPED: {str(got)[:100]}" if got else "contained"
        except BaseException as error:
            line = f"contained: {type(error).__name__} {error}"
        print(json.dumps([name, line]), flush=True)


if __name__ == "__main__":
    main()
