"""Scripts that begin with ``#!``.

Mirrors ``fs/binfmt_script.c``.
"""

from __future__ import annotations

from minikern.kernel.errno import Errno, KernelError

_BLANKS = b" \t"


def script_interpreter(head: bytes) -> tuple[bytes, bytes] | None:
    """Interpreter and its one argument (or empty) from the first 256 bytes of a file; None: not a script.

    ENOEXEC when the interpreter's name is missing or cut off. Source: ``fs/binfmt_script.c:load_script``.
    """
    if not head.startswith(b"#!"):
        return None
    newline = head.find(b"\n")
    line = head[2 : newline if newline >= 0 else len(head) - 1]
    stripped = line.split(b"\0")[0].lstrip(_BLANKS)
    if newline < 0 and not any(blank in stripped for blank in (b" ", b"\t")) and b"\0" not in line:
        raise KernelError(Errno.ENOEXEC)  # the name may go on beyond what was read
    stripped = stripped.rstrip(_BLANKS)
    if not stripped:
        raise KernelError(Errno.ENOEXEC)
    for end, byte in enumerate(stripped):
        if byte in _BLANKS:
            return stripped[:end], stripped[end:].lstrip(_BLANKS)
    return stripped, b""
