"""Linux's seccomp: a process gives up system calls, for ever: network, new processes, other processes, links.

A filter is a few instructions of BPF, so there is no package for it here (pyseccomp has not changed since 2021 and
needs libseccomp). Refused calls fail as forbidden; the process goes on. Tried on x86-64; a test holds
the numbers of both processors against the kernel's headers.
"""

from __future__ import annotations

import ctypes
import errno
import platform
import struct
from collections.abc import Mapping
from dataclasses import dataclass

PR_SET_SECCOMP, MODE_FILTER = 22, 2
LOAD, EQUAL, AT_LEAST, HAS_BITS, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
"""Instructions of BPF (``linux/bpf_common.h``)."""
NUMBER_AT, ARCHITECTURE_AT, ARGUMENT_AT = 0, 4, 16
"""Places in what the filter sees (``struct seccomp_data``)."""
ALLOW, KILL, REFUSE = 0x7FFF_0000, 0x8000_0000, 0x0005_0000
X32 = 0x4000_0000
"""Beginning of a second set of numbers on x86-64."""
CLONE_THREAD = 0x0001_0000

EVERYWHERE = {
    "clone3": 435,
    "io_uring_setup": 425,
    "io_uring_enter": 426,
    "io_uring_register": 427,
    "pidfd_send_signal": 424,
    "pidfd_open": 434,
    "pidfd_getfd": 438,
}
X86_64 = {
    **{"socket": 41, "connect": 42, "accept": 43, "bind": 49, "listen": 50, "socketpair": 53, "accept4": 288},
    **{"clone": 56, "fork": 57, "vfork": 58, "execve": 59, "execveat": 322, "ptrace": 101, "prlimit64": 302},
    **{"kill": 62, "tkill": 200, "tgkill": 234, "rt_sigqueueinfo": 129, "rt_tgsigqueueinfo": 297},
    **{"process_vm_readv": 310, "process_vm_writev": 311, "open_by_handle_at": 304, "userfaultfd": 323},
    **{"mount": 165, "umount2": 166, "unshare": 272, "setns": 308, "bpf": 321, "perf_event_open": 298},
    **{"add_key": 248, "request_key": 249, "keyctl": 250},
    **{"link": 86, "linkat": 265, "symlink": 88, "symlinkat": 266, "mknod": 133, "mknodat": 259},
}
ARM64 = {
    **{"socket": 198, "connect": 203, "accept": 202, "bind": 200, "listen": 201, "socketpair": 199, "accept4": 242},
    **{"clone": 220, "execve": 221, "execveat": 281, "ptrace": 117, "prlimit64": 261},
    **{"kill": 129, "tkill": 130, "tgkill": 131, "rt_sigqueueinfo": 138, "rt_tgsigqueueinfo": 240},
    **{"process_vm_readv": 270, "process_vm_writev": 271, "open_by_handle_at": 265, "userfaultfd": 282},
    **{"mount": 40, "umount2": 39, "unshare": 97, "setns": 268, "bpf": 280, "perf_event_open": 241},
    **{"add_key": 217, "request_key": 218, "keyctl": 219},
    **{"linkat": 37, "symlinkat": 36, "mknodat": 33},
}
EXECUTING = frozenset({"execve", "execveat"})


@dataclass(frozen=True)
class Processor:
    """How one kind of processor calls the system."""

    code: int
    """``AUDIT_ARCH_…``."""
    numbers: Mapping[str, int]
    """Calls that are refused → their numbers."""


PROCESSORS = {
    "x86_64": Processor(0xC000_003E, X86_64 | EVERYWHERE),
    "aarch64": Processor(0xC000_00B7, ARM64 | EVERYWHERE),
}


def restrict(*, may_execute: bool = False) -> bool:
    """Give the calls up. Needs ``no_new_privs``. Returns whether the system can do this."""
    processor = PROCESSORS.get(platform.machine())
    if processor is None or struct.calcsize("P") != 8:
        return False
    program = filter_for(processor, EXECUTING if may_execute else frozenset())
    code = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(code))
    system = ctypes.CDLL(None, use_errno=True)
    return bool(system.prctl(PR_SET_SECCOMP, MODE_FILTER, header, 0, 0) == 0)


def filter_for(processor: Processor, allowed: frozenset[str]) -> bytes:
    """The filter, as instructions of eight bytes. ``allowed``: calls that are not refused after all."""
    numbers = {name: number for name, number in processor.numbers.items() if name not in allowed}
    special = ("clone", "clone3", "prlimit64")
    refuse, unknown = _return(REFUSE | errno.EPERM), _return(REFUSE | errno.ENOSYS)
    parts = [
        _load(ARCHITECTURE_AT),
        _jump(EQUAL, processor.code, no=0, yes=1),
        _return(KILL),
        _load(NUMBER_AT),
        _jump(AT_LEAST, X32, yes=0, no=1),
        refuse,
        _jump(EQUAL, numbers["clone3"], yes=0, no=1),
        unknown,  # the C library then takes clone, whose flags can be looked at
        _jump(EQUAL, numbers["clone"], yes=0, no=4),  # threads, but no processes
        _load(ARGUMENT_AT),
        _jump(HAS_BITS, CLONE_THREAD, yes=0, no=1),
        _return(ALLOW),
        refuse,
        _jump(EQUAL, numbers["prlimit64"], yes=0, no=4),  # its own limits, but not those of others
        _load(ARGUMENT_AT),
        _jump(EQUAL, 0, yes=0, no=1),
        _return(ALLOW),
        refuse,
    ]
    for name, number in numbers.items():
        if name not in special:
            parts += [_jump(EQUAL, number, yes=0, no=1), refuse]
    return b"".join([*parts, _return(ALLOW)])


def _load(place: int) -> bytes:
    return struct.pack("HBBI", LOAD, 0, 0, place)


def _jump(kind: int, value: int, *, yes: int, no: int) -> bytes:
    """Over as many instructions."""
    return struct.pack("HBBI", kind, yes, no, value)


def _return(what: int) -> bytes:
    return struct.pack("HBBI", RETURN, 0, 0, what)
