// MADV_DONTFORK memory is not in the child, MADV_WIPEONFORK memory is zero there; both stay with the parent.
// concept: 1 who is who
// qemu: no (it does not know these advices)
#include "check.h"

int main(void) {
    const size_t page = 4096;
    const int rw = PROT_READ | PROT_WRITE;
    int ends[2], *wiped = mmap(NULL, page, rw, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int *absent = mmap(NULL, page, rw, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(pipe(ends) == 0);
    wiped[0] = absent[0] = 1;
    CHECK(madvise(wiped, page, MADV_WIPEONFORK) == 0 && madvise(absent, page, MADV_DONTFORK) == 0);
    for (int undone = 0; undone < 2; undone++) {
        pid_t pid = fork();
        if (pid == 0) {
            say("wiped: %d, ", wiped[0]);
            ssize_t written = write(ends[1], absent, 1);
            say("absent: %s\n", written == 1 ? "there" : errno_name(errno));
            _exit(0);
        }
        CHECK(status_of(pid) == 0 && wiped[0] == 1 && absent[0] == 1);
        CHECK(madvise(wiped, page, MADV_KEEPONFORK) == 0 && madvise(absent, page, MADV_DOFORK) == 0);
    }
    return 0;
}
