// clone flags decide what parent and child share: descriptors, working directory and umask, handlers, memory. Without
// a flag each has a copy.
// concept: 1 who is who
// qemu: no (it allows only the flags of fork and of threads)
#include "check.h"

#define SHARE_VM 0x100
#define SHARE_FS 0x200
#define SHARE_FILES 0x400
#define SHARE_SIGHAND 0x800

static volatile int stored;

// Everything the child does can be seen by its parent if it is shared. The new descriptor is the result.
static int change(void) {
    stored = 1;
    CHECK(chdir("/dev") == 0);
    umask(033);
    signal(SIGUSR1, SIG_IGN);
    return open("/dev/null", O_RDONLY);
}

static void try(const char *label, unsigned long flags) {
    stored = 0;
    CHECK(chdir("/") == 0);
    umask(022);
    signal(SIGUSR1, SIG_DFL);
    pid_t pid;
    if (flags & SHARE_VM) {
        pid = vfork();
    } else {
        pid = (pid_t)syscall(SYS_clone, flags | SIGCHLD, 0, 0, 0, 0);
    }
    CHECK(pid >= 0);
    if (pid == 0) {
        _exit(change());
    }
    int fd = WEXITSTATUS(status_of(pid));
    char here[64];
    CHECK(getcwd(here, sizeof here));
    struct sigaction action;
    CHECK(sigaction(SIGUSR1, NULL, &action) == 0);
    mode_t mask = umask(022);
    bool open_here = fcntl(fd, F_GETFD) >= 0;
    say("%s: memory %s, files %s, fs %s, handlers %s\n", label, stored ? "shared" : "own",
        open_here ? "shared" : "own", strcmp(here, "/dev") == 0 && mask == 033 ? "shared" : "own",
        action.sa_handler == SIG_IGN ? "shared" : "own");
    if (open_here) close(fd);
}

int main(void) {
    try("fork", 0);
    try("vfork", SHARE_VM);
    try("CLONE_FILES", SHARE_FILES);
    try("CLONE_FS", SHARE_FS);
    try("CLONE_FILES | CLONE_FS", SHARE_FILES | SHARE_FS);
    // Handlers without the memory they are in, and threads without handlers, make no sense.
    CHECK_FAILS(syscall(SYS_clone, SHARE_SIGHAND | SIGCHLD, 0, 0, 0, 0), EINVAL);
    CHECK_FAILS(syscall(SYS_clone, 0x10000 | SHARE_VM | SIGCHLD, 0, 0, 0, 0), EINVAL);

    // unshare gives back a copy of one's own.
    int fd = open("/dev/null", O_RDONLY);
    pid_t pid = (pid_t)syscall(SYS_clone, SHARE_FILES | SIGCHLD, 0, 0, 0, 0);
    if (pid == 0) {
        CHECK(syscall(SYS_unshare, SHARE_FILES) == 0 && close(fd) == 0);
        _exit(0);
    }
    CHECK(status_of(pid) == 0 && fcntl(fd, F_GETFD) == 0);
    say("unshare(CLONE_FILES) makes them its own\n");
    return 0;
}
