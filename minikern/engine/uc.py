"""A Unicorn engine: physical memory, hooks, registers and saved states.  `Cpu` makes a processor of it.

Everything that is called often is prepared once: ctypes converts prebuilt objects faster than declared arguments.
"""

import ctypes
from collections.abc import Mapping, Sequence
from typing import Any, Final

from minikern.engine import lib
from minikern.engine.arena import Arena
from minikern.engine.context import Context
from minikern.engine.registers import CalledRegisters, RegisterBlock, RegisterFile, find_registers, words_at

_CONTEXT_HEAD: Final = 16  # bytes of a context that name its size, mode and architecture


class Engine:
    """The handle of a Unicorn engine and what can be done with it while it stands still."""

    def __init__(self, uc_arch: int, uc_mode: int, cpu_model: int, page_size: int | None) -> None:
        """Create it with a software TLB of 4 KiB pages; `page_size` is to be given where that is not the default."""
        self._handle = handle = ctypes.c_void_p()
        self._library = library = lib.load()
        self._value = ctypes.c_uint64()
        self._value_pointer = ctypes.byref(self._value)
        self._numbers: dict[int, ctypes.c_int] = {}  # register numbers as the library takes them
        self._read = library.quick.uc_reg_read
        self._write = library.quick.uc_reg_write
        self._save = library.quick.uc_context_save
        self._restore = library.quick.uc_context_restore
        self._callbacks: list[Any] = []  # keeps them alive
        self.in_place = False  # whether `regs` are the registers themselves
        self.regs: RegisterFile = CalledRegisters((), self.read_reg, self.write_reg)

        error = library.quick.uc_open(ctypes.c_int(uc_arch), ctypes.c_uint(uc_mode), ctypes.byref(handle))
        library.check(error, "uc_open")
        if page_size is not None:  # before anything else
            self._control(lib.CTL_SET_PAGE_SIZE, ctypes.c_uint(page_size))
        self._control(lib.CTL_SET_CPU_MODEL, ctypes.c_int(cpu_model))
        self._control(lib.CTL_SET_TLB_MODE, ctypes.c_int(lib.UC_TLB_VIRTUAL))
        # With a stop address each uc_emu_start throws a translation away; an empty list of exits costs nothing.
        self._control(lib.CTL_EXITS_ENABLE, ctypes.c_int(1))
        self._control(lib.CTL_SET_EXITS, None, ctypes.c_size_t(0))
        self._pristine = self._empty_context()

    def close(self) -> None:
        """Give the engine back, 3 MB; nothing may be called afterwards."""
        if self._handle.value:
            self._library.quick.uc_close(self._handle)
            self._handle.value = None

    def __del__(self) -> None:
        """Callbacks and engine refer to each other, so this comes with a garbage collection."""
        self.close()

    def _control(self, word: int, *arguments: Any) -> None:
        """uc_ctl."""
        error = self._library.quick.uc_ctl(self._handle, ctypes.c_uint(word), *arguments)
        self._library.check(error, f"uc_ctl({word:#x})")

    def _map(self, paddr: int, memory: Arena) -> None:
        """Let `memory` be the physical memory at `paddr`."""
        error = self._library.quick.uc_mem_map_ptr(
            self._handle,
            ctypes.c_uint64(paddr),
            ctypes.c_uint64(memory.size),
            ctypes.c_uint32(lib.UC_PROT_ALL),
            ctypes.c_void_p(memory.address),
        )
        self._library.check(error, "uc_mem_map_ptr")

    def _add_hook(self, kind: int, callback: Any, *extra: Any) -> None:
        """uc_hook_add for every address, which is what a begin behind the end means."""
        self._callbacks.append(callback)
        error = self._library.quick.uc_hook_add(
            self._handle,
            ctypes.byref(ctypes.c_size_t()),
            ctypes.c_int(kind),
            callback,
            None,
            ctypes.c_uint64(1),
            ctypes.c_uint64(0),
            *extra,
        )
        self._library.check(error, "uc_hook_add")

    # -- registers

    def _find_registers(self, ids: Sequence[int], in_place: bool) -> None:
        """Set `regs` to the registers themselves, where they are found in memory, or to something that acts like them."""
        address = None
        if in_place:
            address = find_registers(self._handle.value or 0, ids, self.read_reg, self.write_reg)
        self.in_place = address is not None
        if address is not None:
            self.regs = words_at(address, len(ids))
        else:
            self.regs = CalledRegisters(ids, self.read_reg, self.write_reg)

    def read_reg(self, register: int) -> int:
        """A register of up to 64 bits."""
        self._value.value = 0
        error = self._read(self._handle, self._number(register), self._value_pointer)
        if error:
            self._library.check(error, f"uc_reg_read({register})")
        return self._value.value

    def write_reg(self, register: int, value: int) -> None:
        """Set a register of up to 64 bits."""
        self._value.value = value
        error = self._write(self._handle, self._number(register), self._value_pointer)
        if error:
            self._library.check(error, f"uc_reg_write({register})")

    def _number(self, register: int) -> ctypes.c_int:
        """A register number that the library takes as it is."""
        try:
            return self._numbers[register]
        except KeyError:
            return self._numbers.setdefault(register, ctypes.c_int(register))

    def read_reg_bytes(self, register: int, size: int, request: bytes = b"") -> bytes:
        """A register as the engine's own bytes: 16 for SIMD registers, 10 for x87 ones.

        Where the engine wants a struct that says which register is meant, `request` is the beginning of it.
        """
        buffer = ctypes.create_string_buffer(request, size)
        error = self._read(self._handle, self._number(register), buffer)
        self._library.check(error, f"uc_reg_read({register})")
        return buffer.raw

    def write_reg_bytes(self, register: int, value: bytes) -> None:
        """Set a register from the engine's own bytes."""
        buffer = ctypes.create_string_buffer(value, len(value))
        error = self._write(self._handle, self._number(register), buffer)
        self._library.check(error, f"uc_reg_write({register})")

    def register_block(self, size: int, places: Mapping[int, int]) -> RegisterBlock:
        """A buffer of `size` bytes and the registers that belong into it, by byte offset; read and written at once."""
        return RegisterBlock(self._library, self._handle, size, places)

    # -- contexts

    def new_context(self) -> Context:
        """The state of a processor that has just been set up: user mode, every register zero."""
        return Context(self._pristine)

    def snapshot(self) -> Context:
        """The state as it is now."""
        context = self.new_context()
        self.save(context)
        return context

    def save(self, context: Context) -> None:
        """Save the state into `context`."""
        self._save(self._handle, context.data)

    def restore(self, context: Context) -> None:
        """Go on with the state in `context`."""
        self._restore(self._handle, context.data)

    def _empty_context(self) -> bytes:
        """A context with nothing in it that the library accepts.

        One that the library makes itself is initialised in the head only; the words behind it belong to snapshots of
        memory, are not used here and are better zero.
        """
        quick, made = self._library.quick, ctypes.c_void_p()
        size: int = quick.uc_context_size(self._handle)
        self._library.check(quick.uc_context_alloc(self._handle, ctypes.byref(made)), "uc_context_alloc")
        head = ctypes.string_at(made.value or 0, _CONTEXT_HEAD)
        quick.uc_context_free(made)
        return head + bytes(size - _CONTEXT_HEAD)
