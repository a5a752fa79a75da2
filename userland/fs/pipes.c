// A pipe: order, capacity, end of file when the last writer closes, EPIPE and SIGPIPE when the last reader does.
// concept: 7 files at death
#include "check.h"
#include <sys/ioctl.h>

int main(void) {
    int ends[2];
    char buffer[100];
    CHECK(pipe(ends) == 0);

    // Order is kept and a read takes what is there, across writes.
    CHECK(write(ends[1], "abc", 3) == 3 && write(ends[1], "def", 3) == 3);
    int waiting;
    CHECK(ioctl(ends[0], FIONREAD, &waiting) == 0 && waiting == 6);
    CHECK(read(ends[0], buffer, 4) == 4 && memcmp(buffer, "abcd", 4) == 0);
    CHECK(read(ends[0], buffer, 100) == 2 && memcmp(buffer, "ef", 2) == 0);

    // Full at 64 KiB: a non-blocking write says EAGAIN, an empty non-blocking read too.
    CHECK(fcntl(ends[1], F_SETFL, O_NONBLOCK) == 0 && fcntl(ends[0], F_SETFL, O_NONBLOCK) == 0);
    CHECK_FAILS(read(ends[0], buffer, 1), EAGAIN);
    size_t total = 0;
    static char page[4096];
    while (write(ends[1], page, sizeof page) == sizeof page) total += sizeof page;
    CHECK(errno == EAGAIN);
    say("capacity %zu, F_GETPIPE_SZ %d\n", total, fcntl(ends[0], F_GETPIPE_SZ));
    CHECK_FAILS(lseek(ends[0], 0, SEEK_SET), ESPIPE);
    for (size_t left = total; left; left -= sizeof page) CHECK(read(ends[0], page, sizeof page) == sizeof page);
    CHECK(fcntl(ends[1], F_SETFL, 0) == 0 && fcntl(ends[0], F_SETFL, 0) == 0);

    // The child's exit closes the last write end: the reader sees what was written, then end of file.
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        CHECK(write(ends[1], "from the child", 14) == 14);
        _exit(0);
    }
    close(ends[1]);
    CHECK(read(ends[0], buffer, 14) == 14 && read(ends[0], buffer, 100) == 0);
    say("%.14s, then end of file\n", buffer);
    CHECK(status_of(pid) == 0);
    close(ends[0]);

    // Nobody reads: EPIPE when SIGPIPE is ignored, death by SIGPIPE otherwise.
    CHECK(pipe(ends) == 0);
    close(ends[0]);
    signal(SIGPIPE, SIG_IGN);
    CHECK_FAILS(write(ends[1], "x", 1), EPIPE);
    pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        signal(SIGPIPE, SIG_DFL);
        write(ends[1], "x", 1);
        _exit(0);
    }
    say("writer without reader: %s\n", status_text(status_of(pid)));
    return 0;
}
