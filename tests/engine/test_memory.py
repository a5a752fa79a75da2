"""TLB fills, copy-on-write, faults with their addresses, and code that changes."""

from __future__ import annotations

import pytest

from minikern.engine.arena import PAGE_SIZE
from minikern.engine.cpu import TABLE_SHIFT, Access, Trap
from tests.engine.guest import (
    A0,
    A1,
    A2,
    A3,
    CODE,
    CODE_FRAME,
    DATA,
    DATA_FRAME,
    DATA_PAGES,
    NOWHERE,
    STACK_POINTER,
    STACK_TOP,
    Guest,
    R,
    Space,
    W,
    X,
)

END = DATA + DATA_PAGES * PAGE_SIZE  # nothing is mapped from here on
ALL_ONES = 2**64 - 1


def instruction(guest: Guest, name: str) -> int:
    """Length of the first instruction of a snippet that goes on with something else."""
    return {"x86_64": 3, "arm64": 4}[guest.arch]


@pytest.mark.parametrize(
    ("address", "reported"),
    [
        (NOWHERE, NOWHERE),
        (NOWHERE | 7, NOWHERE | 7),  # not aligned
        (END, END),
        (END - 3, END),  # straddles: the first byte that is not there
        (DATA - 3, DATA - 3),  # straddles, and the first page is the bad one
        (0, 0),
        (0x7FFF_FFFF_F000 - 8, 0x7FFF_FFFF_F000 - 8),
    ],
)
@pytest.mark.parametrize(("name", "access"), [("load", Access.READ), ("store", Access.WRITE)])
def test_fault_is_exact(guest: Guest, name: str, access: Access, address: int, reported: int) -> None:
    before = bytes(guest.arena.view[DATA_FRAME : DATA_FRAME + DATA_PAGES * PAGE_SIZE])
    assert guest.run(name, address, ALL_ONES, 5) is Trap.FAULT
    assert (guest.cpu.fault_address, guest.cpu.fault_access) == (reported, access)
    assert guest.cpu.pc == CODE  # at the instruction
    assert (guest.regs[A0], guest.regs[A1], guest.regs[A2]) == (address, ALL_ONES, 5)  # nothing has happened,
    after = guest.arena.view[DATA_FRAME : DATA_FRAME + DATA_PAGES * PAGE_SIZE]
    assert after == before  # not even for the part of a store that could have been done


def test_jump_to_nowhere(guest: Guest) -> None:
    target = NOWHERE & ~3
    assert guest.run("jump", target) is Trap.FAULT
    assert (guest.cpu.fault_address, guest.cpu.fault_access, guest.cpu.pc) == (target, Access.EXEC, target)


def test_jump_to_data(guest: Guest) -> None:
    assert guest.run("jump", DATA + 64) is Trap.FAULT
    assert (guest.cpu.fault_address, guest.cpu.fault_access) == (DATA + 64, Access.EXEC)


def test_instruction_that_straddles_into_nothing(x86_64: Guest) -> None:
    """The fault is the second page's, pc is where the instruction begins."""
    start = CODE + PAGE_SIZE - 2
    x86_64.arena.view[CODE_FRAME + PAGE_SIZE - 2 : CODE_FRAME + PAGE_SIZE] = x86_64.code("load")[:2]
    assert x86_64.cpu.run(start) is Trap.FAULT
    assert (x86_64.cpu.fault_address, x86_64.cpu.fault_access, x86_64.cpu.pc) == (CODE + PAGE_SIZE, Access.EXEC, start)


def test_faulting_access_can_be_repeated(guest: Guest) -> None:
    assert guest.run("store", END + 8, 7) is Trap.FAULT
    guest.space.map(END, DATA_FRAME, R | W)
    assert guest.cpu.run(guest.cpu.pc) is Trap.SYSCALL
    assert guest.word(DATA + 8) == 7


def test_demand_paging_does_not_stop(guest: Guest) -> None:
    guest.space.on_demand[END] = DATA_FRAME | R | W
    assert guest.run("store", END + 16, 9) is Trap.SYSCALL
    assert guest.space.asked == [(END, Access.WRITE)]
    assert guest.word(DATA + 16) == 9


def test_read_only_page(guest: Guest) -> None:
    guest.space.map(END, DATA_FRAME, R)
    assert guest.run("load", END) is Trap.SYSCALL
    assert guest.run("store", END + 8, 1) is Trap.FAULT
    assert guest.cpu.fault_address == END + 8


def test_page_without_permissions(guest: Guest) -> None:
    guest.space.map(END, DATA_FRAME, 0)
    assert guest.run("load", END) is Trap.FAULT
    assert guest.space.asked == [(END, Access.READ)]


def test_shared_table_is_copy_on_write(guest: Guest) -> None:
    table = guest.space.tables[DATA >> TABLE_SHIFT]
    table.refs = 2
    assert guest.run("load", DATA) is Trap.SYSCALL
    assert guest.space.asked == []
    guest.space.on_demand[DATA] = DATA_FRAME + PAGE_SIZE | R | W
    assert guest.run("store", DATA, 3) is Trap.SYSCALL  # the read has not left a writable entry
    assert guest.space.asked == [(DATA, Access.WRITE)]
    assert guest.word(DATA) == 0
    assert guest.word(DATA + PAGE_SIZE) == 3


def test_what_fault_returns_for_a_read_is_not_writable_in_a_shared_table(guest: Guest) -> None:
    table = guest.space.tables[DATA >> TABLE_SHIFT]
    table.refs = 2
    del table.entries[DATA >> 12]
    guest.space.on_demand[DATA] = DATA_FRAME | R | W
    assert guest.run("load", DATA) is Trap.SYSCALL
    guest.space.on_demand.clear()
    assert guest.run("store", DATA, 3) is Trap.FAULT


def test_changed_entry_is_seen_after_a_flush(guest: Guest) -> None:
    guest.run("store", DATA, 1)
    guest.space.map(DATA, DATA_FRAME + PAGE_SIZE, R | W)
    guest.cpu.flush_tlb()
    assert guest.run("store", DATA, 2) is Trap.SYSCALL
    assert (guest.word(DATA), guest.word(DATA + PAGE_SIZE)) == (1, 2)


def test_address_spaces_are_apart(guest: Guest) -> None:
    other = Space()
    other.map(CODE, CODE_FRAME, R | X)
    other.map(DATA, DATA_FRAME + PAGE_SIZE, R | W)
    for space, value in ((guest.space, 1), (other, 2), (guest.space, 3), (other, 4)):
        guest.cpu.set_space(space)
        assert guest.cpu.space is space
        assert guest.run("store", DATA, value) is Trap.SYSCALL
    assert (guest.word(DATA), guest.word(DATA + PAGE_SIZE)) == (3, 4)


def test_setting_the_same_space_keeps_the_tlb(guest: Guest) -> None:
    flushes = guest.cpu.flushes
    guest.cpu.set_space(guest.space)
    assert guest.cpu.flushes == flushes


def test_exception_in_fault_comes_out_of_run(guest: Guest) -> None:
    class Broken(Space):
        def fault(self, vaddr: int, access: int) -> int:
            raise ZeroDivisionError

    broken = Broken()
    broken.map(CODE, CODE_FRAME, R | X)
    guest.cpu.set_space(broken)
    with pytest.raises(ZeroDivisionError):
        guest.run("load", NOWHERE)
    assert guest.cpu.pc == CODE
    guest.cpu.set_space(guest.space)
    assert guest.run("load", DATA) is Trap.SYSCALL


def test_tlb_grows_with_the_working_set(guest: Guest) -> None:
    """5120 pages twenty times: with 256 entries each access would be a fill."""
    pages = 5120
    guest.space.map(0x1000_0000, 0x100_0000, R | W, pages)
    guest.put("touch")
    for _ in range(20):
        guest.regs[A0], guest.regs[A1] = 0x1000_0000, pages
        assert guest.cpu.run(CODE) is Trap.SYSCALL
        assert guest.regs[A0] == 0x1000_0000 + pages * PAGE_SIZE
    assert guest.cpu.fills < 4 * pages


def test_each_page_holds_what_was_stored_while_the_tlb_grew(guest: Guest) -> None:
    pages = 2000
    guest.space.map(0x1000_0000, 0x100_0000, R | W, pages)
    assert guest.run("touch", 0x1000_0000, pages) is Trap.SYSCALL
    for page in range(pages):
        paddr = 0x100_0000 + page * PAGE_SIZE
        assert int.from_bytes(guest.arena.view[paddr : paddr + 8], "little") == 0x1000_0000 + page * PAGE_SIZE


# -- code that changes


def call(guest: Guest, target: int) -> int:
    """Call a function; its result."""
    guest.cpu.restore(guest.cpu.new_context())
    guest.regs[STACK_POINTER[guest.arch]] = STACK_TOP
    guest.regs[A3] = target
    assert guest.cpu.run(CODE) is Trap.SYSCALL
    result: int = guest.regs[A0]
    return result


def test_kernel_drops_code_that_it_replaces(guest: Guest) -> None:
    function = END
    frame = DATA_FRAME + 3 * PAGE_SIZE
    guest.space.map(function, frame, R | X)
    guest.put("call")
    guest.put("return_1", frame)
    assert call(guest, function) == 1
    assert frame >> 12 in guest.cpu.code_frames
    guest.put("return_2", frame)
    assert frame >> 12 not in guest.cpu.code_frames
    assert call(guest, function) == 2


def test_code_is_dropped_for_every_address_it_has(guest: Guest) -> None:
    frame = DATA_FRAME + 3 * PAGE_SIZE
    others = [END, END + 7 * PAGE_SIZE, 0x5555_0000_0000]
    for function in others:
        guest.space.map(function, frame, R | X)
    guest.put("call")
    guest.put("return_1", frame)
    assert [call(guest, function) for function in others] == [1, 1, 1]
    guest.put("return_2", frame)
    assert [call(guest, function) for function in others] == [2, 2, 2]


def test_drop_code_of_many_pages(guest: Guest) -> None:
    frame, function = DATA_FRAME + 3 * PAGE_SIZE, END
    guest.space.map(function, frame, R | X, 3)
    guest.put("call")
    for page in range(3):
        guest.put("return_1", frame + page * PAGE_SIZE)
        assert call(guest, function + page * PAGE_SIZE) == 1
    new = guest.code("return_2")
    for page in range(3):
        guest.arena.view[frame + page * PAGE_SIZE : frame + page * PAGE_SIZE + len(new)] = new
    guest.cpu.drop_code(frame, 3 * PAGE_SIZE)
    assert [call(guest, function + page * PAGE_SIZE) for page in range(3)] == [2, 2, 2]


def test_guest_cannot_reach_the_window_of_drop_code(guest: Guest) -> None:
    for address in (1 << 62, (1 << 62) + CODE_FRAME):
        for name in ("jump", "load"):
            assert guest.run(name, address) is Trap.FAULT
            assert guest.cpu.fault_address == address & ~guest.cpu.spec.tag_mask


@pytest.mark.parametrize("alias", [False, True], ids=["same mapping", "second mapping"])
def test_guest_changes_its_own_code(guest: Guest, alias: bool) -> None:
    frame = DATA_FRAME + 3 * PAGE_SIZE
    function = END
    if alias:
        guest.space.map(function, frame, R | X)
        writable = DATA + 3 * PAGE_SIZE
    else:
        guest.space.map(function, frame, R | W | X)
        writable = function
    for name, result in (("return_1", 1), ("return_2", 2), ("return_1", 1)):
        guest.put("store_and_call")  # flushes the TLB
        assert store_and_call(guest, name, writable, function) == result


def store_and_call(guest: Guest, name: str, writable: int, function: int) -> int:
    """Let the guest write a function of up to 8 bytes at `writable` and call the one at `function`; its result.

    The code that does it is the test's to put.
    """
    guest.cpu.restore(guest.cpu.new_context())
    guest.regs[STACK_POINTER[guest.arch]] = STACK_TOP
    guest.regs[A0], guest.regs[A1], guest.regs[A3] = writable, word_of(guest, name), function
    assert guest.cpu.run(CODE) is Trap.SYSCALL
    result: int = guest.regs[A0]
    return result


def word_of(guest: Guest, name: str) -> int:
    """A snippet of up to 8 bytes as the number that stores it."""
    return int.from_bytes(guest.code(name).ljust(8, b"\0"), "little")


@pytest.mark.parametrize("permissions", [R | X, R | W | X], ids=["rx", "rwx"])
def test_guest_changes_code_by_an_entry_that_stays_in_the_tlb(guest: Guest, permissions: int) -> None:
    """Translating makes the engine watch stores at the same address only; the writable entry is for another one."""
    writable, function, frame = DATA + 3 * PAGE_SIZE, END, DATA_FRAME + 3 * PAGE_SIZE
    guest.space.map(function, frame, permissions)
    guest.put("store_and_call")
    for offset in (0, 64, 0, 64):
        for name, result in (("return_1", 1), ("return_2", 2)):
            assert store_and_call(guest, name, writable + offset, function + offset) == result
    assert frame >> 12 in guest.cpu.code_frames


def test_guest_changes_code_of_another_place_of_the_frame(guest: Guest) -> None:
    """The first store to a page drops the code that it hits; later ones must not find code that was left."""
    writable, function = DATA + 3 * PAGE_SIZE, END
    guest.space.map(function, DATA_FRAME + 3 * PAGE_SIZE, R | X)
    guest.put("store_and_call")
    for offset in (0, 64):
        assert store_and_call(guest, "return_1", writable + offset, function + offset) == 1
    assert store_and_call(guest, "return_2", writable, function) == 2
    assert store_and_call(guest, "return_2", writable + 64, function + 64) == 2
    assert store_and_call(guest, "return_1", writable + 64, function) == 2
    assert store_and_call(guest, "return_1", writable, function + 64) == 1


def test_page_is_writable_and_executable_in_turns(guest: Guest) -> None:
    """As mprotect does it: two functions are replaced while the page is writable, and both are seen to be new."""
    page, frame = END, DATA_FRAME + 3 * PAGE_SIZE
    for name, result in (("return_1", 1), ("return_2", 2), ("return_1", 1)):
        guest.space.map(page, frame, R | W)
        guest.put("store")
        for offset in (0, 64):
            guest.regs[A0], guest.regs[A1] = page + offset, word_of(guest, name)
            assert guest.cpu.run(CODE) is Trap.SYSCALL
        guest.space.map(page, frame, R | X)
        guest.put("call")
        assert [call(guest, page + offset) for offset in (0, 64)] == [result, result]


def test_reading_code_by_a_writable_mapping_leaves_it(guest: Guest) -> None:
    writable, function, frame = DATA + 3 * PAGE_SIZE, END, DATA_FRAME + 3 * PAGE_SIZE
    guest.space.map(function, frame, R | X)
    guest.put("call")
    guest.put("return_1", frame)
    assert call(guest, function) == 1
    assert guest.run("load", writable) is Trap.SYSCALL
    assert frame >> 12 in guest.cpu.code_frames
    assert guest.run("store", writable, word_of(guest, "return_2")) is Trap.SYSCALL
    assert frame >> 12 not in guest.cpu.code_frames
    guest.put("call")
    assert call(guest, function) == 2


def test_code_that_writes_code_keeps_its_entry(guest: Guest) -> None:
    """A page that one mapping lets the guest write and execute is not filled in anew for each change of it."""
    function, frame = END, DATA_FRAME + 3 * PAGE_SIZE
    guest.space.map(function, frame, R | W | X)
    guest.put("store_and_call")
    assert store_and_call(guest, "return_1", function, function) == 1
    before = guest.cpu.fills, guest.cpu.flushes
    for _ in range(10):
        assert store_and_call(guest, "return_2", function, function) == 2
        assert store_and_call(guest, "return_1", function, function) == 1
    assert (guest.cpu.fills, guest.cpu.flushes) == before
    guest.cpu.flush_tlb()
    assert store_and_call(guest, "return_2", function, function) == 2
    assert frame >> 12 in guest.cpu.code_frames


def test_guest_changes_code_by_a_tagged_address(arm64: Guest) -> None:
    """To the TLB the same page at an address with a tag is another page."""
    tagged, function = END | 0x5A << 56, END
    arm64.space.map(function, DATA_FRAME + 3 * PAGE_SIZE, R | W | X)
    arm64.put("store_and_call")
    for name, result in (("return_1", 1), ("return_2", 2), ("return_1", 1)):
        assert store_and_call(arm64, name, tagged, function) == result


def test_data_pages_get_no_exec_bit(guest: Guest) -> None:
    """A page that may be executed but is only read and written is filled without EXEC: see Cpu._on_fill."""
    guest.space.map(END, DATA_FRAME, R | W | X)
    guest.run("store", END, 1)
    assert DATA_FRAME >> 12 not in guest.cpu.code_frames


class Recycling(Space):
    """A space whose fault handler puts new code into a frame that other code was run from, as page reclaim does."""

    def __init__(self, guest: Guest, frame: int, new: bytes) -> None:
        super().__init__()
        self.guest, self.frame, self.new = guest, frame, new

    def fault(self, vaddr: int, access: int) -> int:
        self.asked.append((vaddr, access))
        self.guest.put(self.new, self.frame)  # drop_code, inside the TLB fill
        self.map(vaddr, self.frame, R | X)
        return self.frame | R | X


def test_frame_is_recycled_inside_a_fetch(guest: Guest) -> None:
    frame, function = DATA_FRAME + 3 * PAGE_SIZE, END
    guest.space.map(function, frame, R | X)
    guest.put("call")
    guest.put("return_1", frame)
    assert call(guest, function) == 1
    recycling = Recycling(guest, frame, guest.code("return_2"))
    recycling.map(CODE, CODE_FRAME, R | X)
    recycling.map(DATA, DATA_FRAME, R | W, DATA_PAGES)
    guest.cpu.set_space(recycling)
    assert call(guest, function) == 2
    assert call(guest, function + PAGE_SIZE) == 2
    assert recycling.asked == [(function, Access.EXEC), (function + PAGE_SIZE, Access.EXEC)]


def test_frame_is_recycled_while_an_instruction_is_translated(x86_64: Guest) -> None:
    """The instruction begins on a page that is there and goes on on one that the fault handler makes."""
    guest = x86_64
    frame, load = DATA_FRAME + 3 * PAGE_SIZE, guest.code("load")
    guest.space.map(END, frame, R | X)
    guest.put("call")
    guest.put("return_1", frame)
    assert call(guest, END) == 1
    recycling = Recycling(guest, frame, load[1:])
    recycling.map(CODE, CODE_FRAME, R | X)
    recycling.map(DATA, DATA_FRAME, R | W, DATA_PAGES)
    guest.put(load[:1], CODE_FRAME + PAGE_SIZE - 1)
    guest.cpu.set_space(recycling)
    guest.regs[A0], guest.regs[A2] = DATA, 5
    assert guest.cpu.run(CODE + PAGE_SIZE - 1) is Trap.SYSCALL
    assert guest.regs[A2] == 6
    assert recycling.asked == [(CODE + PAGE_SIZE, Access.EXEC)]


def test_frame_is_recycled_inside_a_store(guest: Guest) -> None:
    frame, function = DATA_FRAME + 3 * PAGE_SIZE, END
    guest.space.map(function, frame, R | X)
    guest.put("call")
    guest.put("return_1", frame)
    assert call(guest, function) == 1

    class Anonymous(Recycling):
        def fault(self, vaddr: int, access: int) -> int:
            super().fault(vaddr, access)
            self.map(vaddr, self.frame, R | W)
            return self.frame | R | W

    space = Anonymous(guest, frame, bytes(PAGE_SIZE))
    space.map(CODE, CODE_FRAME, R | X)
    guest.put("store")
    guest.cpu.set_space(space)
    guest.regs[A0], guest.regs[A1] = function + 8, 0x77
    assert guest.cpu.run(CODE) is Trap.SYSCALL
    assert bytes(guest.arena.view[frame : frame + 16]) == bytes(8) + (0x77).to_bytes(8, "little")
