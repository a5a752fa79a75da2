// execve closes the descriptors marked close-on-exec and keeps the others, with their offsets.
// concept: 7 files at death
// qemu: no (it cannot execute a foreign binary without binfmt_misc)
#include "self.h"

int main(int argc, char **argv) {
    if (argc == 3) {
        int kept = atoi(argv[1]), closed = atoi(argv[2]);
        char text[4] = "";
        CHECK(read(kept, text, 3) == 3);
        CHECK_FAILS(fcntl(closed, F_GETFD), EBADF);
        say("after exec: kept reads %s, marked is closed\n", text);
        return 0;
    }
    int ends[2];
    CHECK(pipe(ends) == 0 && write(ends[1], "abc", 3) == 3);
    CHECK(fcntl(ends[1], F_SETFD, FD_CLOEXEC) == 0);
    char kept[12], closed[12];
    snprintf(kept, sizeof kept, "%d", ends[0]);
    snprintf(closed, sizeof closed, "%d", ends[1]);
    const char *self = self_path();

    // A failed exec closes nothing.
    char *arguments[] = {argv[0], kept, closed, NULL};
    CHECK_FAILS(execv("/does/not/exist", arguments), ENOENT);
    CHECK(fcntl(ends[1], F_GETFD) == FD_CLOEXEC);

    // In a child the parent's descriptors stay as they are.
    pid_t pid = fork();
    if (pid == 0) {
        execv(self, arguments);
        _exit(9);
    }
    CHECK(status_of(pid) == 0);
    CHECK(fcntl(ends[1], F_GETFD) == FD_CLOEXEC && write(ends[1], "def", 3) == 3);
    execv(self, arguments);
    return 9;
}
