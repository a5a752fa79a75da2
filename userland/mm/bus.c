// SIGBUS past the end of a mapped file, with the exact address; the tail of its last page is there; truncation takes
// pages away from a mapping, and growth gives them back.
// concept: 6 signals
#include "fault.h"
#include "scratch.h"

int main(void) {
    const size_t page = 4096;
    scratch();
    int fd = open("file", O_RDWR | O_CREAT, 0600);
    CHECK(ftruncate(fd, page + 100) == 0);
    char *map = mmap(NULL, 4 * page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(map != MAP_FAILED);
    say_fault("load in the file", try_fault(load8, map + page + 99), map);
    say_fault("load from the tail of its last page", try_fault(load8, map + page + 101), map);
    say_fault("load past the end", try_fault(load8, map + 2 * page + 5), map);
    say_fault("store past the end", try_fault(store8, map + 3 * page), map);
    say_fault("load of 8 across the end", try_fault(load64, map + 2 * page - 4), map);

    // The kernel's own access to such a page says EFAULT.
    int ends[2];
    CHECK(pipe(ends) == 0 && write(ends[1], "x", 1) == 1);
    CHECK_FAILS(read(ends[0], map + 2 * page, 1), EFAULT);

    CHECK(ftruncate(fd, 3 * page) == 0);
    say_fault("load after growth", try_fault(load8, map + 2 * page + 5), map);
    map[0] = 'm';
    CHECK(ftruncate(fd, 0) == 0);
    say_fault("load after truncation", try_fault(load8, map), map);
    CHECK(ftruncate(fd, page) == 0);
    say_fault("load after truncation and growth", try_fault(load8, map), map);
    CHECK(map[0] == 0);

    pid_t pid = fork();
    if (pid == 0) {
        struct rlimit none = {0, 0};
        setrlimit(RLIMIT_CORE, &none);
        signal(SIGBUS, SIG_DFL);
        load8(map + page);
        _exit(0);
    }
    say("without a handler: %s\n", status_text(status_of(pid)));
    return 0;
}
