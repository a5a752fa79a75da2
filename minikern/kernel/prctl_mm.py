"""The options of prctl(2) that describe the address space: where its parts are, and what areas are called.

Mirrors ``kernel/sys.c:prctl_set_mm`` and ``mm/madvise.c:prctl_set_vma``. Left out: PR_SET_MM_EXE_FILE.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import TYPE_CHECKING, Final

from minikern.kernel.cred import Cap, capable
from minikern.kernel.errno import Errno, KernelError
from minikern.mm.madvise import madvise_set_anon_name
from minikern.mm.mmap import MMAP_MIN_ADDR
from minikern.mm.uaccess import copy_from_user, put_user, strncpy_from_user
from minikern.mm.vma import find_vma

if TYPE_CHECKING:
    from minikern.kernel.task import Task
    from minikern.kernel.waitqueue import Result
    from minikern.mm.mm import Mm

_ANON_VMA_NAME_MAX_LEN = 80  # with the NUL
_ANON_NAME_FORBIDDEN = b"\\`$[]"
_SET_VMA_ANON_NAME = 0
_MM_MAP = struct.Struct("<12QIi")  # struct prctl_mm_map
assert _MM_MAP.size == 104
_NO_EXE_FD = -1
_AUXV_MAX_BYTES = 48 * 8  # as large as ``mm->saved_auxv``


class PrSetMm(IntEnum):
    """What PR_SET_MM sets."""

    START_CODE = 1
    END_CODE = 2
    START_DATA = 3
    END_DATA = 4
    START_STACK = 5
    START_BRK = 6
    BRK = 7
    ARG_START = 8
    ARG_END = 9
    ENV_START = 10
    ENV_END = 11
    AUXV = 12
    EXE_FILE = 13
    MAP = 14
    MAP_SIZE = 15


# Attributes of `Mm` in the order of ``struct prctl_mm_map``, with the option that sets each alone.
_FIELDS: Final = {
    PrSetMm.START_CODE: "start_code",
    PrSetMm.END_CODE: "end_code",
    PrSetMm.START_DATA: "start_data",
    PrSetMm.END_DATA: "end_data",
    PrSetMm.START_BRK: "start_brk",
    PrSetMm.BRK: "brk",
    PrSetMm.START_STACK: "start_stack",
    PrSetMm.ARG_START: "arg_start",
    PrSetMm.ARG_END: "arg_end",
    PrSetMm.ENV_START: "env_start",
    PrSetMm.ENV_END: "env_end",
}
_NEEDS_AREA: Final = frozenset(
    {PrSetMm.START_STACK, PrSetMm.ARG_START, PrSetMm.ARG_END, PrSetMm.ENV_START, PrSetMm.ENV_END}
)


def prctl_set_mm(task: Task, option: int, address: int, arg4: int, arg5: int) -> Result:
    """Source: ``kernel/sys.c:prctl_set_mm``."""
    mm = task.mm
    assert mm is not None
    if arg5 or (arg4 and option not in (PrSetMm.AUXV, PrSetMm.MAP, PrSetMm.MAP_SIZE)):
        raise KernelError(Errno.EINVAL)
    if option == PrSetMm.MAP_SIZE:
        put_user(task, address, _MM_MAP.size, 4)
        return 0
    if option == PrSetMm.MAP:
        return _prctl_set_mm_map(task, mm, address, arg4)
    if not capable(task, Cap.SYS_RESOURCE):
        raise KernelError(Errno.EPERM)
    if option == PrSetMm.AUXV:
        mm.saved_auxv = _auxv_from_user(task, address, arg4)
        return 0
    name = _FIELDS.get(option)  # type: ignore[call-overload]
    if name is None or not MMAP_MIN_ADDR <= address < mm.arch.task_size:
        raise KernelError(Errno.EINVAL)
    values = {each: getattr(mm, each) for each in _FIELDS.values()}
    values[name] = address
    _validate_prctl_map(mm, values)
    if option in _NEEDS_AREA and find_vma(mm, address) is None:
        raise KernelError(Errno.EFAULT)
    setattr(mm, name, address)
    return 0


def _prctl_set_mm_map(task: Task, mm: Mm, address: int, size: int) -> Result:
    """All of it at once. Source: ``kernel/sys.c:prctl_set_mm_map``."""
    if size != _MM_MAP.size:
        raise KernelError(Errno.EINVAL)
    *bounds, auxv, auxv_size, exe_fd = _MM_MAP.unpack(copy_from_user(task, address, size))
    values = dict(zip(_FIELDS.values(), bounds, strict=True))
    _validate_prctl_map(mm, values)
    if exe_fd != _NO_EXE_FD:
        raise KernelError(Errno.EINVAL)
    saved_auxv = _auxv_from_user(task, auxv, auxv_size) if auxv_size else mm.saved_auxv
    for name, value in values.items():
        setattr(mm, name, value)
    mm.saved_auxv = saved_auxv
    return 0


def _validate_prctl_map(mm: Mm, values: dict[str, int]) -> None:
    """Source: ``kernel/sys.c:validate_prctl_map_addr``."""
    if any(not MMAP_MIN_ADDR <= value < mm.arch.task_size for value in values.values()):
        raise KernelError(Errno.EINVAL)
    ordered = (
        ("start_code", "end_code"),
        ("start_data", "end_data"),
        ("start_brk", "brk"),
        ("arg_start", "arg_end"),
        ("env_start", "env_end"),
    )
    if any(values[low] > values[high] for low, high in ordered):
        raise KernelError(Errno.EINVAL)


def _auxv_from_user(task: Task, address: int, size: int) -> bytes:
    """Source: ``kernel/sys.c:prctl_set_auxv``."""
    if not address or size > _AUXV_MAX_BYTES:
        raise KernelError(Errno.EINVAL)
    data = copy_from_user(task, address, size)
    return data[: _AUXV_MAX_BYTES - 16].ljust(size, b"\0")


def prctl_set_vma(task: Task, option: int, address: int, size: int, name: int) -> Result:
    """Name anonymous memory for /proc/PID/maps. Source: ``mm/madvise.c:prctl_set_vma``."""
    if option != _SET_VMA_ANON_NAME:
        raise KernelError(Errno.EINVAL)
    text = None
    if name:
        text = strncpy_from_user(task, name, _ANON_VMA_NAME_MAX_LEN)
        if len(text) == _ANON_VMA_NAME_MAX_LEN:
            raise KernelError(Errno.EINVAL)
        if any(not 0x20 <= byte < 0x7F or byte in _ANON_NAME_FORBIDDEN for byte in text):
            raise KernelError(Errno.EINVAL)
    assert task.mm is not None
    madvise_set_anon_name(task.mm, address, size, text)
    return 0
