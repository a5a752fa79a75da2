// mprotect: each page has its own protection, refused accesses are SEGV_ACCERR, and contents survive.
// qemu: no (its mprotect up to a hole goes too far)
#include "fault.h"

int main(void) {
    const size_t page = 4096;
    char *area = mmap(NULL, 4 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(area != MAP_FAILED);
    memset(area, 'a', 4 * page);
    CHECK(mprotect(area + page, page, PROT_READ) == 0 && mprotect(area + 2 * page, page, PROT_NONE) == 0);

    static const char *const names[] = {"read-write", "read-only", "none", "read-write again"};
    for (int i = 0; i < 4; i++) {
        char label[48];
        snprintf(label, sizeof label, "load from %s", names[i]);
        say_fault(label, try_fault(load8, area + i * page + 5), area);
        snprintf(label, sizeof label, "store to %s", names[i]);
        say_fault(label, try_fault(store8, area + i * page + 5), area);
    }

    // The kernel's own accesses obey too, and say EFAULT.
    int ends[2];
    CHECK(pipe(ends) == 0 && write(ends[1], "xyz", 3) == 3);
    CHECK_FAILS(read(ends[0], area + page, 1), EFAULT);
    CHECK_FAILS(write(ends[1], area + 2 * page, 1), EFAULT);
    CHECK(write(ends[1], area + page, 1) == 1);

    // Given back, the contents are what they were.
    CHECK(mprotect(area, 4 * page, PROT_READ | PROT_WRITE) == 0);
    CHECK(area[page] == 'a' && area[2 * page] == 'a' && area[5] == 0x5a && area[page + 5] == 'a');

    CHECK_FAILS(syscall(SYS_mprotect, area + 1, page, PROT_READ), EINVAL);
    CHECK(munmap(area + 2 * page, page) == 0);
    CHECK_FAILS(mprotect(area, 4 * page, PROT_READ), ENOMEM);
    // It got as far as the hole.
    say_fault("store before the hole", try_fault(store8, area), area);
    say_fault("store behind the hole", try_fault(store8, area + 3 * page), area);
    CHECK_FAILS(mprotect(area, page, 0x1000), EINVAL);
    return 0;
}
