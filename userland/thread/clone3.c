// clone3: the structure may grow, zeros at its end are no harm; a stack of one's own; the exit signal; a pidfd; the
// places for the ids; handlers reset by CLONE_CLEAR_SIGHAND.
// concept: 1 who is who
// qemu: no (it has no clone3)
#include "check.h"

struct clone_arguments {
    uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tid_size, cgroup;
};

#define CLEAR_SIGHAND 0x100000000ull
#define PIDFD 0x1000ull
#define CHILD_SETTID 0x01000000ull
#define PARENT_SETTID 0x00100000ull

static long clone3(struct clone_arguments *arguments, size_t size) {
    return syscall(SYS_clone3, arguments, size);
}

static void handler(int sig) { (void)sig; }

int main(void) {
    struct clone_arguments plain = {.exit_signal = SIGCHLD};
    pid_t pid = (pid_t)clone3(&plain, sizeof plain);
    CHECK(pid >= 0);
    if (pid == 0) _exit(1);
    say("as fork: %s\n", status_text(status_of(pid)));

    int pidfd = -1;
    pid_t child_tid = 0, parent_tid = 0;
    struct clone_arguments all = {.flags = PIDFD | CHILD_SETTID | PARENT_SETTID | CLEAR_SIGHAND,
                                  .pidfd = (uintptr_t)&pidfd, .child_tid = (uintptr_t)&child_tid,
                                  .parent_tid = (uintptr_t)&parent_tid, .exit_signal = SIGCHLD};
    signal(SIGUSR1, handler);
    signal(SIGUSR2, SIG_IGN);
    pid = (pid_t)clone3(&all, sizeof all);
    if (pid == 0) {
        struct sigaction action;
        CHECK(child_tid == (pid_t)syscall(SYS_gettid));
        CHECK(sigaction(SIGUSR1, NULL, &action) == 0 && action.sa_handler == SIG_DFL);
        CHECK(sigaction(SIGUSR2, NULL, &action) == 0 && action.sa_handler == SIG_IGN);
        _exit(2);
    }
    CHECK(pidfd >= 0 && parent_tid == pid && child_tid == 0);
    say("with everything: %s\n", status_text(status_of(pid)));

    // The smallest structure, and one with a future: longer, but all zero behind what is known.
    pid = (pid_t)clone3(&plain, 64);
    if (pid == 0) _exit(3);
    CHECK(status_of(pid) == 3 << 8);
    struct {
        struct clone_arguments known;
        uint64_t unknown[4];
    } future = {.known = plain};
    pid = (pid_t)clone3(&future.known, sizeof future);
    if (pid == 0) _exit(4);
    CHECK(status_of(pid) == 4 << 8);
    future.unknown[2] = 1;
    CHECK_FAILS(clone3(&future.known, sizeof future), E2BIG);
    CHECK_FAILS(clone3(&plain, 63), EINVAL);
    CHECK_FAILS(clone3(&plain, 5000), E2BIG);
    struct clone_arguments wrong = {.exit_signal = 65};
    CHECK_FAILS(clone3(&wrong, sizeof wrong), EINVAL);
    wrong = (struct clone_arguments){.exit_signal = SIGCHLD, .stack = 4096};
    CHECK_FAILS(clone3(&wrong, sizeof wrong), EINVAL);
    wrong = (struct clone_arguments){.flags = SIGCHLD};
    CHECK_FAILS(clone3(&wrong, sizeof wrong), EINVAL);
    wrong = (struct clone_arguments){.flags = 0x100 | 0x800 | 0x10000, .exit_signal = SIGCHLD};
    CHECK_FAILS(clone3(&wrong, sizeof wrong), EINVAL);
    say("refused what must be\n");
    return 0;
}
