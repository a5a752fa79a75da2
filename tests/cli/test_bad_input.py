"""What is not a program: each gets one line that says what to do and status 126, whatever is wrong with it."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import minikern
from minikern.demos import DEMOS
from tests.support import ARCHES, guest, minikern_command

EHDR = struct.Struct("<16sHHIQQQIHHHHHH")
PHDR = struct.Struct("<IIQQQQQQ")
PT_LOAD, PT_INTERP = 1, 3
E_IDENT, E_TYPE, E_MACHINE, _, E_ENTRY, E_PHOFF = range(6)
P_TYPE, P_FLAGS, P_OFFSET, P_VADDR, P_PADDR, P_FILESZ, P_MEMSZ, P_ALIGN = range(8)

HELLO = {arch: DEMOS[0].binary(arch).read_bytes() for arch in ARCHES}


def with_header(field: int, value: object, arch: str = "x86_64") -> bytes:
    """hello with one field of its ELF header changed."""
    header = list(EHDR.unpack_from(HELLO[arch]))
    header[field] = value
    return EHDR.pack(*header) + HELLO[arch][EHDR.size :]


def with_segments(change: dict[int, int], arch: str = "x86_64", kind: int = PT_LOAD) -> bytes:
    """hello with fields of all its segments of one kind changed."""
    image = bytearray(HELLO[arch])
    header = EHDR.unpack_from(image)
    for index in range(header[10]):
        offset = header[E_PHOFF] + index * PHDR.size
        segment = list(PHDR.unpack_from(image, offset))
        if segment[P_TYPE] == kind:
            for field, value in change.items():
                segment[field] = value
            PHDR.pack_into(image, offset, *segment)
    return bytes(image)


def ident(index: int, value: int) -> bytes:
    """hello with one byte of e_ident changed."""
    changed = bytearray(HELLO["x86_64"][:16])
    changed[index] = value
    return with_header(E_IDENT, bytes(changed))


BAD = {
    "empty": b"",
    "text": b"just some text\nin two lines\n",
    "half an ELF header": HELLO["x86_64"][:40],
    "ELF header only": HELLO["x86_64"][: EHDR.size],
    "truncated program headers": HELLO["x86_64"][: EHDR.size + PHDR.size + 8],
    "32-bit": ident(4, 1),
    "big-endian": ident(5, 2),
    "unknown machine": with_header(E_MACHINE, 243),
    "object file": with_header(E_TYPE, 1),
    "core file": with_header(E_TYPE, 4),
    "PE": b"MZ" + bytes(58) + struct.pack("<I", 64) + b"PE\0\0" + bytes(200),
    "program headers past the end": with_header(E_PHOFF, 1 << 40),
    "program headers at the end of the address space": with_header(E_PHOFF, (1 << 64) - 8),
    "no program headers": with_header(10, 0),
    "too many program headers": with_header(10, 0xFFFF),
    "strange size of program headers": with_header(9, 13),
    "segments in the kernel's half": with_segments({P_VADDR: 1 << 63}),
    "segments that overlap": with_segments({P_VADDR: 0x400000, P_OFFSET: 0, P_MEMSZ: 1 << 46}),
    "segments larger in the file than in memory": with_segments({P_FILESZ: 0x3000, P_MEMSZ: 0x1000}),
    "segments with an odd offset": with_segments({P_OFFSET: 3}),
    "no segments to load": with_segments({P_TYPE: 4}),
    "entry outside any segment": with_header(E_ENTRY, 0x10),
    "entry in the kernel's half": with_header(E_ENTRY, (1 << 64) - 16),
    "script without an interpreter": b"#!\n",
    "script with a missing interpreter": b"#!/nonexistent/interpreter -x\n",
    "script that is its own interpreter": b"#!@SELF@\n",
}


@pytest.mark.parametrize("name", BAD)
def test_bad_program(name: str, tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_bytes(BAD[name].replace(b"@SELF@", bytes(program)))
    program.chmod(0o755)
    check_refusal(program, 126)


def test_directory(tmp_path: Path) -> None:
    check_refusal(tmp_path, 126)


def test_no_permission(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_bytes(HELLO["x86_64"])
    program.chmod(0o644)
    assert "chmod +x" in check_refusal(program, 126)


def test_not_there(tmp_path: Path) -> None:
    check_refusal(tmp_path / "program", 127)
    check_refusal(tmp_path / "no/such/program", 127)


def check_refusal(program: Path, status: int) -> str:
    """The command ends with ``status`` and says why in one line, which is returned."""
    done = minikern_command("run", str(program))
    assert done.status == status
    assert done.stdout == b""
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith("minikern: ")
    assert str(program) in line
    return line


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    arch=st.sampled_from(ARCHES),
    changes=st.lists(st.tuples(st.integers(0, 64 + 56 * 6 - 1), st.integers(0, 255)), min_size=1, max_size=4),
    length=st.none() | st.integers(0, 600),
)
def test_any_damage_to_the_headers_ends_in_an_orderly_way(
    tmp_path: Path, arch: str, changes: list[tuple[int, int]], length: int | None
) -> None:
    image = bytearray(HELLO[arch])
    for offset, value in changes:
        image[offset] = value
    program = tmp_path / "program"
    program.write_bytes(image[:length])
    program.chmod(0o755)
    try:
        outcome = guest([program], memory_bytes=64 << 20)
    except minikern.ExecError as error:
        assert error.exit_status in (126, 127)
    else:
        assert outcome.status in (0, -4, -5, -7, -8, -9, -11)
