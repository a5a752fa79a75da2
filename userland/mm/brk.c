// brk: the break grows and shrinks by any amount, new memory is zero, a refused call returns the old break.
// qemu: no (it never gives the break's pages back)
#include "fault.h"

static char *set_break(char *to) { return (char *)syscall(SYS_brk, to); }

int main(void) {
    const size_t page = 4096;
    // stdio must not allocate its buffer at the break.
    static char output[1024];
    setvbuf(stdout, output, _IOFBF, sizeof output);
    // Rounded up, so that page borders are easy to name.
    char *start = set_break(NULL);
    start += -(uintptr_t)start % page;
    CHECK(set_break(start) == start);
    CHECK(set_break(start + 3 * page + 10) == start + 3 * page + 10);
    for (size_t i = 0; i < 3 * page + 10; i++) CHECK(start[i] == 0);
    memset(start, 'b', 3 * page + 10);
    // The page of the break is whole; the next one is not there.
    say_fault("last byte of the page of the break", try_fault(store8, start + 4 * page - 1), start);
    say_fault("the page behind it", try_fault(store8, start + 4 * page), start);

    CHECK(set_break(start + page) == start + page);
    CHECK(start[page - 1] == 'b');
    say_fault("behind the lowered break", try_fault(load8, start + page), start);
    CHECK(set_break(start + 2 * page) == start + 2 * page && start[page] == 0);

    CHECK(set_break((char *)-4096L) == start + 2 * page);
    CHECK(set_break((char *)4096) == start + 2 * page);
    // RLIMIT_DATA bounds it.
    struct rlimit limit = {512 * page, RLIM_INFINITY};
    CHECK(setrlimit(RLIMIT_DATA, &limit) == 0);
    CHECK(set_break(start + 1000 * page) == start + 2 * page);
    limit.rlim_cur = RLIM_INFINITY;
    CHECK(setrlimit(RLIMIT_DATA, &limit) == 0);

    // A child has its own break.
    pid_t pid = fork();
    if (pid == 0) {
        CHECK(set_break(start) == start);
        _exit(0);
    }
    CHECK(status_of(pid) == 0 && set_break(NULL) == start + 2 * page && start[0] == 'b');
    return 0;
}
