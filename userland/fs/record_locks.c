// POSIX record locks belong to the process: they go at any close of the file and at its death, are not inherited, and
// a deadlock is refused. flock and open-file-description locks belong to the open file and go with its last reference.
// concept: 7 files at death
#include "scratch.h"
#include <sys/file.h>

static int fd;

static int lock(int on, int command, short type, off_t start, off_t length) {
    struct flock request = {.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = length};
    return fcntl(on, command, &request);
}

// Who holds a lock on the byte, as another process sees it.
static const char *holder(off_t at) {
    static char text[32];
    int ends[2];
    CHECK(pipe(ends) == 0);
    pid_t parent = getpid(), pid = fork();
    if (pid == 0) {
        struct flock request = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = at, .l_len = 1};
        CHECK(fcntl(fd, F_GETLK, &request) == 0);
        int length = snprintf(text, sizeof text, "%s%s", request.l_type == F_UNLCK   ? "nobody"
                                                         : request.l_pid == parent ? "me"
                                                         : request.l_pid == -1     ? "an open file"
                                                                                   : "another",
                              request.l_type == F_RDLCK ? " (read)" : "");
        CHECK(write(ends[1], text, (size_t)length + 1) == length + 1);
        _exit(0);
    }
    CHECK(read(ends[0], text, sizeof text) > 0 && status_of(pid) == 0);
    close(ends[0]), close(ends[1]);
    return text;
}

// Wait for the lock of a byte; whether it was refused for a deadlock.
static int refused(off_t at) {
    if (lock(fd, F_SETLKW, F_WRLCK, at, 1) == 0) return 0;
    CHECK(errno == EDEADLK);
    return 1;
}

int main(void) {
    scratch();
    fd = open("file", O_RDWR | O_CREAT, 0600);
    CHECK(lock(fd, F_SETLK, F_WRLCK, 0, 100) == 0);
    // A part unlocked, a part turned into a read lock.
    CHECK(lock(fd, F_SETLK, F_UNLCK, 20, 10) == 0 && lock(fd, F_SETLK, F_RDLCK, 50, 10) == 0);
    static const off_t places[] = {0, 19, 20, 29, 30, 55, 99, 100};
    for (size_t i = 0; i < COUNT(places); i++) say("byte %ld: %s\n", (long)places[i], holder(places[i]));

    // Not inherited, and gone with the process that takes it.
    struct gate locked = gate_new(), go = gate_new();
    pid_t pid = fork();
    if (pid == 0) {
        CHECK_FAILS(lock(fd, F_SETLK, F_WRLCK, 0, 1), EAGAIN);
        CHECK(lock(fd, F_SETLK, F_WRLCK, 200, 10) == 0);
        gate_open(locked);
        gate_wait(go);
        _exit(0);
    }
    gate_wait(locked);
    CHECK_FAILS(lock(fd, F_SETLK, F_RDLCK, 205, 1), EAGAIN);
    gate_open(go);
    // F_SETLKW waits for the death.
    CHECK(lock(fd, F_SETLKW, F_WRLCK, 205, 1) == 0);
    CHECK(status_of(pid) == 0);
    say("waited for the lock of a process that died\n");

    // A deadlock: each has what the other wants. The one that would close the circle is refused, and gives way.
    CHECK(lock(fd, F_SETLK, F_WRLCK, 301, 1) == 0);
    pid = fork();
    if (pid == 0) {
        CHECK(lock(fd, F_SETLK, F_WRLCK, 300, 1) == 0);
        gate_open(locked);
        _exit(refused(301));
    }
    gate_wait(locked);
    int mine = refused(300);
    CHECK(lock(fd, F_SETLK, F_UNLCK, 300, 2) == 0);
    CHECK(mine + WEXITSTATUS(status_of(pid)) == 1);
    say("a deadlock is refused to one of two\n");

    // Any close of the file by the process drops them all.
    CHECK(close(open("file", O_RDONLY)) == 0);
    say("after another descriptor was closed: %s\n", holder(0));

    // flock: on the open file, shared by dup and fork.
    int same = dup(fd), other = open("file", O_RDWR);
    CHECK(flock(fd, LOCK_EX) == 0);
    CHECK_FAILS(flock(other, LOCK_EX | LOCK_NB), EAGAIN);
    CHECK(flock(same, LOCK_EX | LOCK_NB) == 0 && close(same) == 0);
    CHECK_FAILS(flock(other, LOCK_SH | LOCK_NB), EAGAIN);
    pid = fork();
    if (pid == 0) {
        // The child's copy is the same open file: unlocking it here unlocks it for all.
        CHECK(flock(fd, LOCK_UN) == 0);
        _exit(0);
    }
    CHECK(status_of(pid) == 0 && flock(other, LOCK_SH | LOCK_NB) == 0 && flock(fd, LOCK_SH | LOCK_NB) == 0);
    CHECK(close(other) == 0 && flock(fd, LOCK_EX | LOCK_NB) == 0);
    CHECK(flock(fd, LOCK_UN) == 0);

    // Waited for, until its owner is killed.
    pid = fork();
    if (pid == 0) {
        other = open("file", O_RDWR);
        CHECK(flock(other, LOCK_EX) == 0);
        gate_open(locked);
        for (;;) pause();
    }
    gate_wait(locked);
    CHECK_FAILS(flock(fd, LOCK_SH | LOCK_NB), EAGAIN);
    CHECK(kill(pid, SIGKILL) == 0 && flock(fd, LOCK_EX) == 0 && status_of(pid) == SIGKILL);
    CHECK(flock(fd, LOCK_UN) == 0);
    say("flock of a process that was killed\n");

    // Open-file-description locks conflict within the process too, and live as long as a reference.
    other = open("file", O_RDWR);
    CHECK(lock(fd, F_OFD_SETLK, F_WRLCK, 0, 10) == 0);
    CHECK_FAILS(lock(other, F_OFD_SETLK, F_WRLCK, 5, 1), EAGAIN);
    CHECK(close(open("file", O_RDONLY)) == 0);
    say("an open-file-description lock: %s\n", holder(5));
    pid = fork();
    if (pid == 0) {
        gate_wait(go);
        _exit(0);
    }
    CHECK(close(fd) == 0);
    CHECK_FAILS(lock(other, F_OFD_SETLK, F_WRLCK, 5, 1), EAGAIN);
    gate_open(go);
    CHECK(status_of(pid) == 0 && lock(other, F_OFD_SETLK, F_WRLCK, 5, 1) == 0);
    say("it went with the last reference\n");
    return 0;
}
