"""Makes memory calls on the host's own kernel; run as a program of its own, without anything of minikern.

Reads from stdin a JSON list of sequences of calls, each ``[name, arguments…]``, and writes for each call its result and
the areas that are then in the window. Every sequence begins with an empty window. In the place of a descriptor stands the
name of one.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys

BASE = 0x2000_0000_0000
WINDOW = 32  # pages
FILE_PAGES = 6
NUMBERS = {"mmap": 9, "mprotect": 10, "munmap": 11, "mremap": 25, "msync": 26, "mincore": 27, "madvise": 28}
ALL_BITS = (1 << 64) - 1


def main() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long

    def call(name: str, *args: int) -> int:
        result: int = libc.syscall(ctypes.c_long(NUMBERS[name]), *[ctypes.c_ulong(arg & ALL_BITS) for arg in args])
        return result if result != -1 else -ctypes.get_errno()

    file = os.memfd_create("witness")
    os.truncate(file, 4096 * FILE_PAGES)
    again = f"/proc/self/fd/{file}"
    fds = {"rw": file, "ro": os.open(again, os.O_RDONLY), "wo": os.open(again, os.O_WRONLY), "none": -1}
    answer = ctypes.create_string_buffer(4096)

    results = []
    for sequence in json.load(sys.stdin):
        call("munmap", BASE, WINDOW * 4096)
        steps = []
        for name, *args in sequence:
            if name == "mmap":
                args[4] = fds[args[4]]
            elif name == "mincore":
                args.append(ctypes.addressof(answer))
            steps.append((call(name, *args), areas()))
        results.append(steps)
    json.dump(results, sys.stdout)


def areas() -> list[tuple[int, int, str, int]]:
    """First page, end, rights and page of the file of every area in the window."""
    found = []
    with open("/proc/self/maps") as maps:
        for line in maps:
            fields = line.split()
            start, end = (int(each, 16) - BASE >> 12 for each in fields[0].split("-"))
            if start < WINDOW and end > 0:
                found.append((start, end, fields[1], int(fields[2], 16) >> 12 if "memfd:witness" in line else 0))
    return found


if __name__ == "__main__":
    main()
