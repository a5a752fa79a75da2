"""The ELF format: what an executable says, and how it becomes an address space.

Mirrors ``fs/binfmt_elf.c``. What the headers say is kept, so that the same file executed again is not read again. To
read them with pyelftools would cost 30 ms of the first program's start. Left out: FDPIC, 32-bit programs.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import TYPE_CHECKING

from minikern.kernel.errno import Errno, KernelError
from minikern.kernel.exec import NotExecutable
from minikern.kernel.flags import fast_flags
from minikern.mm.brk import padzero, vm_brk_flags
from minikern.mm.mm import Mm, mm_alloc, mmput, set_mm_exe_file
from minikern.mm.mman import Map, Prot
from minikern.mm.mmap import arch_pick_mmap_layout, do_mmap, get_unmapped_area
from minikern.mm.special import install_special_mapping
from minikern.mm.stack import bprm_mm_init, setup_arg_pages
from minikern.mm.uaccess import mm_write
from minikern.mm.vma import VM_EXEC, VM_MAYEXEC, VM_MAYREAD, VM_MAYWRITE, VM_READ

if TYPE_CHECKING:
    from minikern.arch import Arch
    from minikern.fs.file import File
    from minikern.kernel.exec import Binprm
    from minikern.kernel.kernel import Kernel
    from minikern.kernel.task import Task

_PAGE_SIZE = 4096
_PAGE_MASK = ~(_PAGE_SIZE - 1)
_EI_CLASS, _EI_DATA = 4, 5
_ELFCLASS64 = 2
_ELFDATA2LSB = 1
_ET_EXEC, _ET_DYN = 2, 3
_PT_LOAD, _PT_INTERP, _PT_GNU_STACK = 1, 3, 0x6474E551
_EHDR_SIZE = 64
_PHDR = struct.Struct("<IIQQQQQQ")  # type, flags, offset, vaddr, paddr, filesz, memsz, align
assert _PHDR.size == 56
_PHDRS_MAX = 65536
_CLOCKS_PER_SEC = 100
_RSEQ_FEATURE_SIZE, _RSEQ_ALIGN = 28, 32
_IMAGES_KEPT = 64


class At(IntEnum):
    """Entries of the auxiliary vector (``AT_*``)."""

    NULL = 0
    PHDR = 3
    PHENT = 4
    PHNUM = 5
    PAGESZ = 6
    BASE = 7
    FLAGS = 8
    ENTRY = 9
    UID = 11
    EUID = 12
    GID = 13
    EGID = 14
    PLATFORM = 15
    HWCAP = 16
    CLKTCK = 17
    SECURE = 23
    RANDOM = 25
    HWCAP2 = 26
    RSEQ_FEATURE_SIZE = 27
    RSEQ_ALIGN = 28
    EXECFN = 31
    SYSINFO_EHDR = 33
    MINSIGSTKSZ = 51


@fast_flags
class Pf(IntFlag):
    """Permissions of a segment."""

    X = 1
    W = 2
    R = 4


@dataclass(frozen=True, slots=True)
class Segment:
    """One PT_LOAD program header."""

    offset: int  # in the file
    vaddr: int
    filesz: int
    memsz: int
    flags: int  # Pf
    align: int


@dataclass(frozen=True, slots=True)
class ElfImage:
    """What the headers of an executable say."""

    machine: int  # e_machine
    dynamic: bool  # ET_DYN: can be loaded anywhere
    entry: int
    phdr_vaddr: int  # address of the program headers in memory; 0: not loaded
    phnum: int
    segments: tuple[Segment, ...]
    interpreter: bytes  # the dynamic linker, or empty
    executable_stack: bool


# Reading


def read_image(task: Task, file: File, head: bytes) -> ElfImage:
    """Check and read the headers; NotExecutable says what is wrong. Source: the first half of ``load_elf_binary``."""
    inode = file.inode
    key = (inode.sb.dev, inode.ino, inode.mtime_ns, inode.size)
    images = task.kernel.elf_images
    image = images.get(key)
    if image is None:
        image = _parse(task, file, head)
        if len(images) >= _IMAGES_KEPT:
            images.pop(next(iter(images)))
        images[key] = image
    return image


def _parse(task: Task, file: File, head: bytes) -> ElfImage:
    _check_ident(file, head)
    e_type, machine, entry, phoff = struct.unpack_from("<HH4xQQ", head, 16)
    phentsize, phnum = struct.unpack_from("<HH", head, 54)
    if phentsize != _PHDR.size or not 1 <= phnum <= _PHDRS_MAX // _PHDR.size:
        raise NotExecutable("it has no program headers")
    size = phnum * _PHDR.size
    if phoff + size > file.inode.size:
        raise NotExecutable("its program headers lie past its end (truncated?)")
    headers = file.read(task, size, phoff)
    assert isinstance(headers, bytes)
    if len(headers) != size:
        raise NotExecutable("its program headers cannot be read")
    return _image(task, file, _PHDR.iter_unpack(headers), machine, e_type == _ET_DYN, entry, phoff, phnum)


def _check_ident(file: File, head: bytes) -> None:
    """Say as clearly as possible why this is no program for us."""
    if not file.inode.size:
        raise NotExecutable("it is empty")
    if head[:2] == b"MZ":
        raise NotExecutable("it is a Windows program, not a Linux one")
    if head[:4] != b"\x7fELF":
        raise NotExecutable("it is neither an ELF file nor a script with a #! line")
    if file.inode.size < _EHDR_SIZE:
        raise NotExecutable("its ELF header is cut off")
    if head[_EI_CLASS] != _ELFCLASS64:
        raise NotExecutable("it is a 32-bit program; only 64-bit ones run")
    if head[_EI_DATA] != _ELFDATA2LSB:
        raise NotExecutable("it is a big-endian program; only little-endian ones run")
    (e_type,) = struct.unpack_from("<H", head, 16)
    if e_type not in (_ET_EXEC, _ET_DYN):
        kind = {1: "an object file", 4: "a core file"}.get(e_type, f"ELF type {e_type}")
        raise NotExecutable(f"it is {kind}, not a program")


def _image(
    task: Task,
    file: File,
    headers: Iterable[tuple[int, ...]],
    machine: int,
    dynamic: bool,
    entry: int,
    phoff: int,
    phnum: int,
) -> ElfImage:
    """Segments in order, checked as far as the kernel checks before it commits itself."""
    segments: list[Segment] = []
    interpreter = b""
    executable_stack = False
    phdr_vaddr = 0
    for kind, flags, offset, vaddr, _paddr, filesz, memsz, align in headers:
        if kind == _PT_LOAD:
            segment = Segment(offset, vaddr, filesz, memsz, flags, align)
            _check_segment(file, segment, segments)
            segments.append(segment)
            if segment.offset <= phoff < segment.offset + segment.filesz:
                phdr_vaddr = phoff - segment.offset + segment.vaddr
        elif kind == _PT_INTERP and not interpreter:
            interpreter = _read_interpreter(task, file, offset, filesz)
        elif kind == _PT_GNU_STACK:
            executable_stack = flags & Pf.X != 0
    if not segments:
        raise NotExecutable("it has no segment to load")
    if not any(each.flags & Pf.X and each.vaddr <= entry < each.vaddr + each.memsz for each in segments):
        raise NotExecutable(f"its entry point {entry:#x} is outside every executable segment")
    return ElfImage(machine, dynamic, entry, phdr_vaddr, phnum, tuple(segments), interpreter, executable_stack)


def _check_segment(file: File, segment: Segment, before: list[Segment]) -> None:
    if segment.filesz > segment.memsz:
        raise NotExecutable("a segment is larger in the file than in memory")
    if segment.offset + segment.filesz > file.inode.size:
        raise NotExecutable("a segment lies past the end of the file (truncated?)")
    if (segment.vaddr - segment.offset) % _PAGE_SIZE:
        raise NotExecutable("a segment is not aligned as its place in the file")
    if segment.vaddr + segment.memsz >= 1 << 48:
        raise NotExecutable("a segment lies outside of user addresses")
    if before and segment.vaddr < before[-1].vaddr + before[-1].memsz:
        raise NotExecutable("its segments overlap")


def _read_interpreter(task: Task, file: File, offset: int, size: int) -> bytes:
    """The name in PT_INTERP. Source: the middle of ``load_elf_binary``."""
    if not 2 <= size <= _PAGE_SIZE:
        raise NotExecutable("the name of its dynamic linker is missing")
    name = file.read(task, size, offset)
    assert isinstance(name, bytes)
    if len(name) != size or not name.endswith(b"\0"):
        raise NotExecutable("the name of its dynamic linker is cut off")
    return name.split(b"\0")[0]


def find_arch(kernel: Kernel, image: ElfImage) -> Arch:
    """The backend for a program; NotExecutable lists what is installed where there is none."""
    arch = kernel.arch_for_machine(image.machine)
    if arch is None:
        installed = ", ".join(sorted(kernel.arch_names())) or "none"
        raise NotExecutable(
            f"it is for {machine_name(image.machine)}, for which no architecture is installed (installed: {installed})"
        )
    return arch


def machine_name(machine: int) -> str:
    """A processor's name as ELF has it."""
    from elftools.elf.enums import ENUM_E_MACHINE  # only an error message needs it

    for name, number in ENUM_E_MACHINE.items():
        if number == machine and name.startswith("EM_"):
            return str(name[3:])
    return f"machine {machine}"


# Loading


def new_mm(task: Task, arch: Arch, bprm: Binprm) -> Mm:
    """An address space that holds nothing but the stack with the argument strings.

    Source: ``fs/exec.c:bprm_mm_init`` and ``copy_strings``.
    """
    mm = mm_alloc(task.kernel, arch)
    try:
        set_mm_exe_file(mm, bprm.file)
        stack_top = arch.task_size
        if task.kernel.config.aslr:
            stack_top -= (int.from_bytes(task.kernel.sources.random_bytes(4), "little") & 0x3FFFFF) << 12
        arch_pick_mmap_layout(mm, stack_top)
        vma = bprm_mm_init(mm, stack_top)
        position = stack_top - 8
        position = _push(mm, position, [bprm.filename])
        mm.env_end = position
        position = _push(mm, position, bprm.envp)
        mm.arg_end = mm.env_start = position
        mm.arg_start = _push(mm, position, bprm.argv)
        assert bprm.image is not None
        setup_arg_pages(mm, vma, executable=bprm.image.executable_stack)
    except KernelError:
        mmput(mm)
        raise
    return mm


def _push(mm: Mm, end: int, strings: list[bytes]) -> int:
    """Write NUL-terminated strings that end at ``end``; where they begin."""
    data = b"".join(string + b"\0" for string in strings)
    start = end - len(data)
    page = start & _PAGE_MASK
    while page < end:  # from the top down, as the stack grows
        page += _PAGE_SIZE
    while data:
        page -= _PAGE_SIZE
        low = max(page, start)
        chunk = data[low - start :]
        if mm_write(mm, low, chunk) != len(chunk):
            raise KernelError(Errno.ENOMEM)
        data = data[: low - start]
    return start


def load_elf_binary(task: Task, bprm: Binprm) -> None:
    """Map the segments, write the tables on the stack, and be ready at the entry point.

    Source: the second half of ``fs/binfmt_elf.c:load_elf_binary``.
    """
    image, mm, arch = bprm.image, task.mm, task.arch
    assert image is not None and mm is not None
    bias = 0
    if image.dynamic:
        if bprm.interpreter is not None:
            bias = arch.et_dyn_base - (image.segments[0].vaddr & _PAGE_MASK)
        else:
            bias = _free_place(mm, image)
    _map_segments(task, bprm.file, image, bias)
    _set_bounds(mm, image, bias)
    if image.dynamic and bprm.interpreter is None:
        mm.brk = mm.start_brk = arch.et_dyn_base  # or the heap would run into what lies behind
    entry = image.entry + bias
    base = 0
    if bprm.interpreter is not None:
        assert bprm.interpreter_image is not None
        base = _free_place(mm, bprm.interpreter_image)
        _map_segments(task, bprm.interpreter, bprm.interpreter_image, base)
        entry = bprm.interpreter_image.entry + base
    _map_vdso(task, mm)
    sp = _create_elf_tables(task, bprm, image, bias, base)
    mm.start_stack = sp
    arch.start_thread(task, entry, sp)


def _free_place(mm: Mm, image: ElfImage) -> int:
    """How far to move an image so that it lies where room is. Source: ``total_mapping_size`` and ``elf_map``."""
    low = image.segments[0].vaddr & _PAGE_MASK
    high = max(each.vaddr + each.memsz for each in image.segments)
    size = high - low + _PAGE_SIZE - 1 & _PAGE_MASK
    align = max([each.align for each in image.segments if each.align & (each.align - 1) == 0] + [_PAGE_SIZE])
    place = get_unmapped_area(mm, 0, size + align - _PAGE_SIZE, 0)
    return (place + align - 1 & -align) - low


def _map_segments(task: Task, file: File, image: ElfImage, bias: int) -> None:
    """Source: ``fs/binfmt_elf.c:elf_load`` for each PT_LOAD."""
    mm = task.mm
    assert mm is not None
    for segment in image.segments:
        if not segment.memsz:
            continue
        prot = Prot(0)
        prot |= Prot.READ if segment.flags & Pf.R else 0
        prot |= Prot.WRITE if segment.flags & Pf.W else 0
        prot |= Prot.EXEC if segment.flags & Pf.X else 0
        vaddr = segment.vaddr + bias
        start = vaddr & _PAGE_MASK
        file_end = vaddr + segment.filesz
        end = vaddr + segment.memsz + _PAGE_SIZE - 1 & _PAGE_MASK
        mapped_to = start
        if segment.filesz:
            length = file_end - start
            pgoff = (segment.offset & _PAGE_MASK) // _PAGE_SIZE
            do_mmap(task, file, start, length, prot, Map.PRIVATE | Map.FIXED_NOREPLACE, pgoff)
            mapped_to = file_end + _PAGE_SIZE - 1 & _PAGE_MASK
            if segment.memsz > segment.filesz and segment.flags & Pf.W:
                padzero(mm, file_end)
        if end > mapped_to:
            vm_brk_flags(mm, mapped_to, end - mapped_to, VM_EXEC if segment.flags & Pf.X else 0)


def _set_bounds(mm: Mm, image: ElfImage, bias: int) -> None:
    """Where code, data and heap are, as /proc and brk see it."""
    code = [each for each in image.segments if each.flags & Pf.X] or list(image.segments)
    mm.start_code = min(each.vaddr for each in image.segments) + bias
    mm.end_code = max(each.vaddr + each.filesz for each in code) + bias
    mm.start_data = max(each.vaddr for each in image.segments) + bias
    mm.end_data = max(each.vaddr + each.filesz for each in image.segments) + bias
    end = max(each.vaddr + each.memsz for each in image.segments) + bias
    mm.start_brk = mm.brk = end + _PAGE_SIZE - 1 & _PAGE_MASK


def _map_vdso(task: Task, mm: Mm) -> None:
    """The time page and, right behind it, the code that reads it. Source: ``arch/*/entry/vdso/vma.c:map_vdso``."""
    kernel = task.kernel
    image = kernel.vdso.image(task.arch)
    vvar, code = image.data_pfns, image.code_pfns
    place = get_unmapped_area(mm, 0, (len(vvar) + len(code)) * _PAGE_SIZE, 0)
    may = VM_MAYREAD | VM_MAYWRITE | VM_MAYEXEC
    install_special_mapping(mm, place, vvar, VM_READ | VM_MAYREAD, "[vvar]")
    mm.vdso = place + len(vvar) * _PAGE_SIZE
    install_special_mapping(mm, mm.vdso, code, VM_READ | VM_EXEC | may, "[vdso]")


def _create_elf_tables(task: Task, bprm: Binprm, image: ElfImage, bias: int, base: int) -> int:
    """argc, argv, envp and the auxiliary vector; the initial stack pointer. Source: ``create_elf_tables``."""
    mm, arch, cred = task.mm, task.arch, task.cred
    assert mm is not None
    position = mm.arg_start & ~15
    platform = arch.platform + b"\0"
    position -= len(platform)
    platform_at = position
    position -= 16
    random_at = position
    random_bytes = task.kernel.sources.random_bytes(16)
    hwcap, hwcap2 = arch.hwcap()
    filename_at = mm.env_end
    auxv = [
        (At.SYSINFO_EHDR, mm.vdso),
        (At.MINSIGSTKSZ, arch.minsigstksz),
        (At.HWCAP, hwcap),
        (At.PAGESZ, _PAGE_SIZE),
        (At.CLKTCK, _CLOCKS_PER_SEC),
        (At.PHDR, image.phdr_vaddr + bias),
        (At.PHENT, _PHDR.size),
        (At.PHNUM, image.phnum),
        (At.BASE, base),
        (At.FLAGS, 0),
        (At.ENTRY, image.entry + bias),
        (At.UID, cred.uid),
        (At.EUID, cred.euid),
        (At.GID, cred.gid),
        (At.EGID, cred.egid),
        (At.SECURE, int(bprm.secureexec)),
        (At.RANDOM, random_at),
        (At.HWCAP2, hwcap2),
        (At.EXECFN, filename_at),
        (At.PLATFORM, platform_at),
        (At.RSEQ_FEATURE_SIZE, _RSEQ_FEATURE_SIZE),
        (At.RSEQ_ALIGN, _RSEQ_ALIGN),
        (At.NULL, 0),
    ]
    words = [len(bprm.argv), *_addresses(mm.arg_start, bprm.argv), 0, *_addresses(mm.env_start, bprm.envp), 0]
    mm.saved_auxv = struct.pack(f"<{2 * len(auxv)}Q", *(word for pair in auxv for word in pair))
    table = struct.pack(f"<{len(words)}Q", *words) + mm.saved_auxv
    sp = position - len(table) & ~15
    for address, data in ((platform_at, platform), (random_at, random_bytes), (sp, table)):
        if mm_write(mm, address, data) != len(data):
            raise KernelError(Errno.EFAULT)
    return sp


def _addresses(start: int, strings: list[bytes]) -> list[int]:
    addresses = []
    for string in strings:
        addresses.append(start)
        start += len(string) + 1
    return addresses
