"""Core files: what a dead process leaves to debuggers, as an ELF file.

Mirrors the second half of ``fs/binfmt_elf.c``. First come notes: the registers of every thread, the one that crashed
first, and what is known of the process; then its memory, one segment for each area. Pages that were never touched are
holes in the file.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import TYPE_CHECKING, Final

from minikern.engine.arena import PAGE_SHIFT, PAGE_SIZE
from minikern.fs.path import d_path
from minikern.kernel.cputime import thread_group_usage
from minikern.kernel.flags import fast_flags
from minikern.kernel.pid import task_pgrp, task_session
from minikern.mm.pgtable import PAGE_MASK, PTE_ANON, pte_of
from minikern.mm.uaccess import access_remote_vm
from minikern.mm.vma import VM_DONTDUMP, VM_EXEC, VM_IO, VM_PFNMAP, VM_READ, VM_SHARED, VM_WRITE, Vma

if TYPE_CHECKING:
    from minikern.fs.file import File
    from minikern.kernel.resource import Rusage
    from minikern.kernel.siginfo import SigInfo
    from minikern.kernel.task import Task
    from minikern.mm.mm import Mm


class NoteType(IntEnum):
    """``NT_*`` of what every architecture has."""

    PRSTATUS = 1
    PRFPREG = 2
    PRPSINFO = 3
    AUXV = 6
    FILE = 0x46494C45
    SIGINFO = 0x53494749


@fast_flags
class DumpFilter(IntFlag):
    """What /proc/PID/coredump_filter chooses (``MMF_DUMP_*``)."""

    ANON_PRIVATE = 1 << 0
    ANON_SHARED = 1 << 1
    MAPPED_PRIVATE = 1 << 2
    MAPPED_SHARED = 1 << 3
    ELF_HEADERS = 1 << 4
    HUGETLB_PRIVATE = 1 << 5
    DEFAULT = ANON_PRIVATE | ANON_SHARED | ELF_HEADERS | HUGETLB_PRIVATE


_EHDR: Final = struct.Struct("<16sHHIQQQIHHHHHH")  # Elf64_Ehdr
_PHDR: Final = struct.Struct("<IIQQQQQQ")  # Elf64_Phdr
_NHDR: Final = struct.Struct("<III")  # Elf64_Nhdr
assert (_EHDR.size, _PHDR.size) == (64, 56)
_IDENT: Final = b"\x7fELF\x02\x01\x01"  # 64 bits, little-endian, version 1
_ET_CORE: Final = 4
_PT_LOAD, _PT_NOTE = 1, 4
_PF_X, _PF_W, _PF_R = 1, 2, 4
_S_IXUGO: Final = 0o111
_ELF_MAGIC: Final = b"\x7fELF"
# struct elf_prstatus up to pr_reg: pr_info (signo, code, errno), cursig, sigpend, sighold, four ids, four times
_PRSTATUS: Final = struct.Struct("<iiih2xQQiiii8q")
assert _PRSTATUS.size == 112
# struct elf_prpsinfo: state, sname, zomb, nice, flag, uid, gid, four ids, fname, psargs
_PRPSINFO: Final = struct.Struct("<BcBb4xQIIiiii16s80s")
assert _PRPSINFO.size == 136
_ELF_PRARGSZ: Final = 80
_WORD: Final = 8
_NSEC_PER_SEC, _NSEC_PER_USEC = 1_000_000_000, 1_000


@dataclass(frozen=True, slots=True)
class _Segment:
    """One area and how much of it is dumped (``struct core_vma_metadata``)."""

    vma: Vma
    dump_size: int


class _Writer:
    """A file that ends at RLIMIT_CORE (``struct coredump_params``)."""

    def __init__(self, task: Task, file: File, limit: int) -> None:
        self.task = task
        self.file = file
        self.limit = limit
        self.position = 0  # where the next byte goes; behind the end of the file after a hole
        self.written = 0  # bytes that the limit is compared with: holes are not counted

    def emit(self, data: bytes | memoryview) -> bool:
        """Append; False when the limit does not allow that. Source: ``fs/coredump.c:dump_emit``."""
        if self.written + len(data) > self.limit:
            return False
        done = self.file.write(self.task, data, self.position)
        self.position += len(data)
        self.written += len(data)
        return done == len(data)

    def skip_to(self, position: int) -> None:
        """Leave a hole. Source: ``fs/coredump.c:dump_skip_to``."""
        self.position = position

    def finish(self) -> None:
        """Make the file as long as its last hole says. The ``to_skip`` part of ``do_coredump``."""
        if self.position > self.file.inode.size:
            self.file.write(self.task, b"\0", self.position - 1)


def elf_core_dump(task: Task, threads: list[Task], info: SigInfo, file: File, limit: int) -> None:
    """Write the core file of ``task`` into ``file``. Source: ``fs/binfmt_elf.c:elf_core_dump``."""
    mm = task.mm
    assert mm is not None
    segments = [_Segment(vma, vma_dump_size(vma, mm.coredump_filter)) for vma in mm.vmas]
    notes = _notes(task, mm, threads, info)
    offset = _EHDR.size + _PHDR.size * (1 + len(segments))
    headers = [_ehdr(task, 1 + len(segments)), _PHDR.pack(_PT_NOTE, 0, offset, 0, 0, len(notes), 0, 4)]
    data_offset = -(-(offset + len(notes)) // PAGE_SIZE) * PAGE_SIZE
    offset = data_offset
    for segment in segments:
        headers.append(_phdr(segment, offset))
        offset += segment.dump_size

    writer = _Writer(task, file, limit)
    if writer.emit(b"".join(headers)) and writer.emit(notes):
        writer.skip_to(data_offset)
        if all(_dump_user_range(writer, mm, segment) for segment in segments):
            writer.finish()


def _ehdr(task: Task, phnum: int) -> bytes:
    """Source: ``fs/binfmt_elf.c:fill_elf_header``."""
    fields = (_ET_CORE, task.arch.elf_machine, 1, 0, _EHDR.size, 0, 0, _EHDR.size, _PHDR.size, phnum, 0, 0, 0)
    return _EHDR.pack(_IDENT, *fields)


def _phdr(segment: _Segment, offset: int) -> bytes:
    vma = segment.vma
    flags = 0
    for bit, right in ((VM_READ, _PF_R), (VM_WRITE, _PF_W), (VM_EXEC, _PF_X)):
        flags |= right if vma.flags & bit else 0
    return _PHDR.pack(_PT_LOAD, flags, offset, vma.start, 0, segment.dump_size, vma.end - vma.start, PAGE_SIZE)


# Memory


def vma_dump_size(vma: Vma, wanted: int) -> int:
    """How many bytes of an area are dumped. Source: ``fs/coredump.c:vma_dump_size``."""
    whole = vma.end - vma.start
    if vma.pfns:
        return whole  # the vDSO is no file that a debugger could find
    if vma.flags & (VM_DONTDUMP | VM_IO):
        return 0
    if vma.flags & VM_SHARED:
        unnamed = vma.file is None or vma.file.inode.nlink == 0
        return whole if wanted & (DumpFilter.ANON_SHARED if unnamed else DumpFilter.MAPPED_SHARED) else 0
    if wanted & DumpFilter.ANON_PRIVATE and _was_written_to(vma):
        return whole
    if vma.file is None:
        return 0
    if wanted & DumpFilter.MAPPED_PRIVATE:
        return whole
    if wanted & DumpFilter.ELF_HEADERS and vma.pgoff == 0 and vma.flags & VM_READ and _may_be_elf(vma):
        return PAGE_SIZE  # it tells a debugger which file it was
    return 0


def _was_written_to(vma: Vma) -> bool:
    """Whether it has pages of its own, which is what ``vma->anon_vma`` stands for."""
    return any(pte_of(vma.mm, vpn) & PTE_ANON for vpn in range(vma.start >> PAGE_SHIFT, vma.end >> PAGE_SHIFT))


def _may_be_elf(vma: Vma) -> bool:
    assert vma.file is not None
    if vma.file.inode.mode & _S_IXUGO:
        return True
    return access_remote_vm(vma.mm, vma.start, len(_ELF_MAGIC), force=True) == _ELF_MAGIC


def _dump_user_range(writer: _Writer, mm: Mm, segment: _Segment) -> bool:
    """The pages of an area; False when the limit is reached. Source: ``fs/coredump.c:dump_user_range``."""
    vma = segment.vma
    view = mm.kernel.arena.view
    begin = writer.position
    for address in range(vma.start, vma.start + segment.dump_size, PAGE_SIZE):
        page: bytes | memoryview = b""
        pte = pte_of(mm, address >> PAGE_SHIFT)
        if pte:
            page = view[pte & PAGE_MASK : (pte & PAGE_MASK) + PAGE_SIZE]
        elif vma.mapping is not None and not vma.flags & VM_PFNMAP:
            page = access_remote_vm(mm, address, PAGE_SIZE, force=True)
        if page:
            writer.skip_to(begin + address - vma.start)
            if not writer.emit(bytes(page)):
                return False
    writer.skip_to(begin + segment.dump_size)
    return True


# Notes


def _notes(task: Task, mm: Mm, threads: list[Task], info: SigInfo) -> bytes:
    """All notes in their order. Source: ``fs/binfmt_elf.c:fill_note_info`` and ``write_note_info``."""
    notes = []
    for thread in threads:
        notes.append(_note(NoteType.PRSTATUS, _prstatus(thread, info.signo)))
        if thread is task:
            notes.append(_note(NoteType.PRPSINFO, _prpsinfo(task, mm)))
            notes.append(_note(NoteType.SIGINFO, info.pack()))
            notes.append(_note(NoteType.AUXV, mm.saved_auxv))
            notes.append(_note(NoteType.FILE, _nt_file(task, mm)))
        notes.append(_note(NoteType.PRFPREG, thread.arch.get_fpregs(thread)))
        for kind in thread.arch.core_regsets:
            notes.append(_note(kind, thread.arch.get_regset(thread, kind), name=b"LINUX"))
    return b"".join(notes)


def _note(kind: int, data: bytes, name: bytes = b"CORE") -> bytes:
    """Source: ``fs/binfmt_elf.c:writenote``."""
    return _NHDR.pack(len(name) + 1, len(data), kind) + _padded(name + b"\0") + _padded(data)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def _prstatus(thread: Task, sig: int) -> bytes:
    """Registers and state of one thread (``struct elf_prstatus``). Source: ``fs/binfmt_elf.c:fill_prstatus``."""
    own = thread_group_usage(thread) if thread.is_leader() else thread.usage
    head = _PRSTATUS.pack(
        *(sig, 0, 0, sig, thread.pending.signal, thread.blocked),
        *_ids(thread),
        *_times(own),
        *_times(thread.signal.children),
    )
    fpvalid = 1
    return head + thread.arch.get_gregs(thread) + struct.pack("<i4x", fpvalid)


def _ids(thread: Task) -> tuple[int, int, int, int]:
    """pr_pid, pr_ppid, pr_pgrp, pr_sid."""
    pgrp, session = task_pgrp(thread), task_session(thread)
    parent = thread.real_parent
    return (
        thread.pid,
        parent.tgid if parent is not None else 0,
        pgrp.nr if pgrp is not None else 0,
        session.nr if session is not None else 0,
    )


def _times(usage: Rusage) -> tuple[int, int, int, int]:
    """User and system time as two ``struct timeval``."""
    user, system = usage.utime_ns, usage.stime_ns
    return (
        *(user // _NSEC_PER_SEC, user % _NSEC_PER_SEC // _NSEC_PER_USEC),
        *(system // _NSEC_PER_SEC, system % _NSEC_PER_SEC // _NSEC_PER_USEC),
    )


def _prpsinfo(task: Task, mm: Mm) -> bytes:
    """What ps would have said (``struct elf_prpsinfo``). Source: ``fs/binfmt_elf.c:fill_psinfo``."""
    arguments = access_remote_vm(mm, mm.arg_start, min(mm.arg_end - mm.arg_start, _ELF_PRARGSZ - 1), force=True)
    state, zombie = 0, 0
    return _PRPSINFO.pack(
        *(state, b"R", zombie, task.nice, int(task.flags), task.cred.uid, task.cred.gid),
        *_ids(task),
        task.comm,
        arguments.replace(b"\0", b" "),
    )


def _nt_file(task: Task, mm: Mm) -> bytes:
    """Which files are mapped where. Source: ``fs/binfmt_elf.c:fill_files_note``."""
    assert task.fs is not None
    mapped = [vma for vma in mm.vmas if vma.file is not None]
    ranges = b"".join(struct.pack("<3Q", vma.start, vma.end, vma.pgoff) for vma in mapped)
    names = b""
    for vma in mapped:
        assert vma.file is not None
        path = vma.file.f_path
        names += (d_path(path, task.fs.root) if path is not None else vma.file.d_dname()) + b"\0"
    return struct.pack("<2Q", len(mapped), PAGE_SIZE) + ranges + names
