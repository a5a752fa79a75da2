// Descriptors: the lowest free number is given; dup shares the open file, its offset and flags, not the descriptor's.
// concept: 7 files at death
#include "scratch.h"

int main(void) {
    scratch();
    close(0);
    int fd = open("file", O_RDWR | O_CREAT, 0600);
    CHECK(fd == 0);
    CHECK(write(fd, "0123456789", 10) == 10);

    // One open file: the offset moves for both, and the status flags are common.
    int copy = dup(fd);
    CHECK(copy == 3);
    CHECK(lseek(copy, 4, SEEK_SET) == 4 && lseek(fd, 0, SEEK_CUR) == 4);
    CHECK(fcntl(copy, F_SETFL, O_APPEND) == 0 && (fcntl(fd, F_GETFL) & O_APPEND));
    // A second open of the same name is another open file.
    int other = open("file", O_RDONLY);
    CHECK(other == 4 && lseek(other, 0, SEEK_CUR) == 0 && !(fcntl(other, F_GETFL) & O_APPEND));

    // dup2 closes its target first, does nothing on itself; dup3 refuses that.
    CHECK(dup2(fd, other) == other && lseek(other, 0, SEEK_CUR) == 4);
    CHECK(dup2(fd, fd) == fd);
    CHECK_FAILS(dup3(fd, fd, 0), EINVAL);
    CHECK_FAILS(dup2(99, 5), EBADF);
    CHECK_FAILS(dup2(fd, -1), EBADF);
    CHECK(fcntl(fd, F_DUPFD, 50) == 50 && fcntl(fd, F_DUPFD, 50) == 51);

    // close-on-exec belongs to the descriptor.
    CHECK(fcntl(fd, F_SETFD, FD_CLOEXEC) == 0 && fcntl(fd, F_GETFD) == FD_CLOEXEC);
    CHECK(fcntl(copy, F_GETFD) == 0);
    CHECK(fcntl(dup(fd), F_GETFD) == 0);
    CHECK(fcntl(fcntl(fd, F_DUPFD_CLOEXEC, 60), F_GETFD) == FD_CLOEXEC);
    CHECK(fcntl(dup3(fd, 70, O_CLOEXEC), F_GETFD) == FD_CLOEXEC);

    // Closing one leaves the others; closing twice fails.
    CHECK(close(fd) == 0);
    CHECK_FAILS(close(fd), EBADF);
    CHECK_FAILS(fcntl(fd, F_GETFD), EBADF);
    CHECK(lseek(copy, 0, SEEK_CUR) == 4);

    // A child has copies of the descriptors to the same open files.
    pid_t pid = fork();
    if (pid == 0) {
        CHECK(lseek(copy, 7, SEEK_SET) == 7 && close(copy) == 0);
        _exit(0);
    }
    CHECK(status_of(pid) == 0);
    CHECK(lseek(copy, 0, SEEK_CUR) == 7);

    // The limit is on numbers.
    struct rlimit limit = {64, 64};
    CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    CHECK_FAILS(fcntl(copy, F_DUPFD, 64), EINVAL);
    CHECK_FAILS(dup2(copy, 64), EBADF);
    while (dup(copy) >= 0) continue;
    CHECK(errno == EMFILE);
    CHECK(syscall(SYS_close_range, 5, ~0u, 0) == 0 && dup(copy) == 5);
    say("descriptors as they should be\n");
    return 0;
}
