"""Where an engine keeps its registers, and the slow way to reach them when that cannot be found out.

Unicorn has no call that tells where a register lies, yet reading one in place costs 0.03 µs and by `uc_reg_read`
0.2 µs.  The probe writes random values by `uc_reg_write`, follows the pointers in the first bytes of the engine's struct
and looks for the pattern.  It reads through /proc/self/mem, where a bad address is an error and not a crash, and
nothing about the layout is assumed: what is not found or does not verify is reached by calls instead.
"""

import ctypes
import os
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from minikern.engine.lib import Library

_HANDLE_BYTES = 1024  # how much of the engine's struct is searched for pointers
_STATE_BYTES = 64 * 1024  # how much behind each pointer is searched for the pattern
_LOWEST_POINTER = 0x10000
_WORD = 8


class RegisterFile(Protocol):
    """A sequence of 64-bit registers."""

    def __getitem__(self, index: int, /) -> int: ...
    def __setitem__(self, index: int, value: int, /) -> None: ...
    def __len__(self) -> int: ...


class CalledRegisters:
    """The registers reached by one library call each: for hosts where they cannot be found in memory."""

    __slots__ = ("_ids", "_read", "_write")

    def __init__(self, ids: Sequence[int], read: Callable[[int], int], write: Callable[[int, int], None]) -> None:
        self._ids = tuple(ids)
        self._read = read
        self._write = write

    def __getitem__(self, index: int) -> int:
        return self._read(self._ids[index])

    def __setitem__(self, index: int, value: int) -> None:
        self._write(self._ids[index], value)

    def __len__(self) -> int:
        return len(self._ids)


class RegisterBlock:
    """Registers of any size in one buffer at fixed places, as signal frames and core files want them.

    All of them are read or written by one library call.
    """

    __slots__ = ("_count", "_handle", "_ids", "_library", "_pointers", "buffer", "view")

    def __init__(self, library: Library, handle: ctypes.c_void_p, size: int, places: Mapping[int, int]) -> None:
        """`places`: byte offset in the buffer -> register number."""
        self._library = library
        self._handle = handle
        self.buffer = ctypes.create_string_buffer(size)
        self.view = memoryview(self.buffer).cast("B")
        base = ctypes.addressof(self.buffer)
        self._ids = (ctypes.c_int * len(places))(*places.values())
        self._pointers = (ctypes.c_void_p * len(places))(*(base + offset for offset in places))
        self._count = ctypes.c_int(len(places))

    def read(self) -> memoryview:
        """Fetch every register into the buffer; bytes that belong to none stay as they are."""
        error = self._library.quick.uc_reg_read_batch(self._handle, self._ids, self._pointers, self._count)
        self._library.check(error, "uc_reg_read_batch")
        return self.view

    def write(self) -> None:
        """Set every register from the buffer."""
        error = self._library.quick.uc_reg_write_batch(self._handle, self._ids, self._pointers, self._count)
        self._library.check(error, "uc_reg_write_batch")


def words_at(address: int, count: int) -> memoryview:
    """`count` 64-bit words of this process's own memory, readable and writable."""
    array = (ctypes.c_uint64 * count).from_address(address)
    return memoryview(array).cast("B").cast("Q")  # a ctypes array's own format, "<Q", does not allow indexing


def find_registers(
    handle: int, ids: Sequence[int], read: Callable[[int], int], write: Callable[[int, int], None]
) -> int | None:
    """The host address of the registers `ids` if they lie one after the other in that order, else None.

    `handle` is the address of the engine's struct.  The registers are left zero.
    """
    try:
        memory = os.open("/proc/self/mem", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None  # not Linux, or /proc is not mounted
    try:
        return _find(memory, handle, ids, read, write)
    finally:
        os.close(memory)
        for register in ids:
            write(register, 0)


def _find(
    memory: int, handle: int, ids: Sequence[int], read: Callable[[int], int], write: Callable[[int, int], None]
) -> int | None:
    pattern = _fill(ids, write)
    pointers = struct.unpack(f"{_HANDLE_BYTES // _WORD}Q", os.pread(memory, _HANDLE_BYTES, handle))
    pointer: int
    for pointer in dict.fromkeys(pointers):
        if pointer < _LOWEST_POINTER:
            continue
        try:
            offset = os.pread(memory, _STATE_BYTES, pointer).find(pattern)
        except (OSError, OverflowError):
            continue  # not a pointer
        if offset >= 0 and _is_live(pointer + offset, ids, read, write):
            return pointer + offset
    return None


def _is_live(address: int, ids: Sequence[int], read: Callable[[int], int], write: Callable[[int, int], None]) -> bool:
    """Whether `address` holds the registers themselves and not a copy: new values must show there, and the other way."""
    words = words_at(address, len(ids))
    if _fill(ids, write) != words.tobytes():
        return False
    values = [int.from_bytes(os.urandom(8), "little") >> 2 for _ in ids]
    for index, value in enumerate(values):
        words[index] = value
    return [read(register) for register in ids] == values


def _fill(ids: Sequence[int], write: Callable[[int, int], None]) -> bytes:
    """Give every register a random value; the bytes of all of them in order."""
    values = [int.from_bytes(os.urandom(8), "little") >> 2 for _ in ids]
    for register, value in zip(ids, values, strict=True):
        write(register, value)
    return struct.pack(f"{len(values)}Q", *values)
