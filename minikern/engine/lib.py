"""Raw ctypes bindings of the few Unicorn functions that the engine calls.

The official Python package is used only as the carrier of the shared library: importing it costs 43 ms, and its
wrappers cost microseconds on every call.  `load()` finds its directory without importing it.
"""

import ctypes
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MINIMUM_VERSION = (2, 1, 4)  # before it, the PC of a fault was exact to the block only
_LIBRARY_NAMES = ("libunicorn.so.2", "libunicorn.2.dylib", "unicorn.dll")

UC_ERR_OK = 0
UC_ERR_INSN_INVALID = 10

UC_HOOK_INTR = 1 << 0
UC_HOOK_INSN = 1 << 1
UC_HOOK_TLB_FILL = 1 << 17

UC_MEM_READ = 16
UC_MEM_WRITE = 17
UC_MEM_FETCH = 18

UC_PROT_ALL = 7
UC_TLB_VIRTUAL = 1

_UC_CTL_IO_WRITE = 1


def _write_control(kind: int, arguments: int) -> int:
    """The control word of `uc_ctl` that sets `kind` from a number of arguments (the header's UC_CTL_WRITE)."""
    return kind | arguments << 26 | _UC_CTL_IO_WRITE << 30


CTL_SET_PAGE_SIZE = _write_control(1, 1)
CTL_EXITS_ENABLE = _write_control(4, 1)
CTL_SET_EXITS = _write_control(6, 2)
CTL_SET_CPU_MODEL = _write_control(7, 1)
CTL_REMOVE_CACHE = _write_control(9, 2)
CTL_FLUSH_CODE = _write_control(10, 0)
CTL_FLUSH_TLB = _write_control(11, 0)
CTL_SET_TLB_MODE = _write_control(12, 1)

# Callback types.  Trailing arguments that a callback does not need are left out: the caller passes them in registers
# that nobody reads, and each conversion that is not made saves 20 ns.
SYSCALL_HOOK = ctypes.CFUNCTYPE(None)
INTR_HOOK = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_uint32)
TLB_HOOK = ctypes.CFUNCTYPE(ctypes.c_bool, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_int, ctypes.c_size_t)


class EngineError(RuntimeError):
    """Unicorn is missing, too old, or refused a call that must not fail."""


@dataclass(frozen=True, slots=True)
class Library:
    """Unicorn's shared library, opened twice: `quick` keeps the GIL during a call, `slow` releases it."""

    quick: ctypes.PyDLL  # for short calls; a release of the GIL would cost more than the call
    slow: ctypes.CDLL  # for uc_emu_start, so that a ticker thread can stop it

    def check(self, error: int, what: str) -> None:
        """Raise EngineError unless `error` is UC_ERR_OK."""
        if error != UC_ERR_OK:
            raise EngineError(f"{what}: {self.strerror(error)}")

    def strerror(self, error: int) -> str:
        """Unicorn's own words for an error number."""
        function: Callable[[int], bytes] = self.quick.uc_strerror
        return function(error).decode()


def load() -> Library:
    """Open the library that the `unicorn` package carries; EngineError says what is wrong when it cannot be used."""
    path = _find()
    quick, slow = ctypes.PyDLL(str(path)), ctypes.CDLL(str(path))
    _declare(quick)
    _declare(slow)
    combined: int = quick.uc_version(None, None)
    version = combined >> 24 & 0xFF, combined >> 16 & 0xFF, combined >> 8 & 0xFF
    if version < MINIMUM_VERSION:
        raise EngineError(
            f"unicorn {'.'.join(map(str, version))} is too old: {'.'.join(map(str, MINIMUM_VERSION))} or newer is needed"
        )
    return Library(quick, slow)


def _find() -> Path:
    """The path of the shared library inside the installed `unicorn` package."""
    spec = importlib.util.find_spec("unicorn")  # does not execute the package
    if spec is None or not spec.submodule_search_locations:
        raise EngineError("the unicorn package is not installed (pip install 'unicorn>=2.1.4')")
    for location in spec.submodule_search_locations:
        for name in _LIBRARY_NAMES:
            path = Path(location, "lib", name)
            if path.exists():
                return path
    raise EngineError(f"no Unicorn library in {list(spec.submodule_search_locations)}")


def _declare(library: Any) -> None:
    """Result types.  Arguments stay undeclared: prebuilt ctypes objects are passed faster without a declaration."""
    library.uc_version.restype = ctypes.c_uint
    library.uc_strerror.restype = ctypes.c_char_p
    library.uc_context_size.restype = ctypes.c_size_t
