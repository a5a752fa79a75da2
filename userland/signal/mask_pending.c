// A blocked signal stays pending, once however often it was sent, and is delivered when it is unblocked. Masks are
// inherited by fork, pending signals are not.
// concept: 6 signals
#include "check.h"

static volatile sig_atomic_t count;

static void handler(int sig) {
    (void)sig;
    count++;
}

static bool pending(int sig) {
    sigset_t set;
    CHECK(sigpending(&set) == 0);
    return sigismember(&set, sig);
}

int main(void) {
    sigset_t set, old;
    struct sigaction action = {.sa_handler = handler};
    CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    CHECK(sigprocmask(SIG_BLOCK, &set, &old) == 0 && !sigismember(&old, SIGUSR1));
    for (int i = 0; i < 3; i++) CHECK(kill(getpid(), SIGUSR1) == 0);
    CHECK(count == 0 && pending(SIGUSR1));

    pid_t pid = fork();
    if (pid == 0) {
        CHECK(!pending(SIGUSR1));
        CHECK(sigprocmask(SIG_SETMASK, NULL, &old) == 0 && sigismember(&old, SIGUSR1));
        _exit(0);
    }
    CHECK(status_of(pid) == 0);
    CHECK(sigprocmask(SIG_UNBLOCK, &set, NULL) == 0 && count == 1 && !pending(SIGUSR1));

    // To the thread and to the process are two places: both arrive.
    CHECK(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
    CHECK(kill(getpid(), SIGUSR1) == 0 && syscall(SYS_tgkill, getpid(), gettid(), SIGUSR1) == 0);
    CHECK(sigprocmask(SIG_UNBLOCK, &set, NULL) == 0 && count == 3);

    // Ignoring a pending signal drops it, and so does the default when that is to ignore.
    CHECK(sigprocmask(SIG_BLOCK, &set, NULL) == 0 && kill(getpid(), SIGUSR1) == 0 && pending(SIGUSR1));
    signal(SIGUSR1, SIG_IGN);
    CHECK(!pending(SIGUSR1));
    // A signal that is ignored while blocked is dropped as it comes, unless it is blocked: then it waits for a change.
    CHECK(kill(getpid(), SIGUSR1) == 0 && pending(SIGUSR1));
    CHECK(sigprocmask(SIG_UNBLOCK, &set, NULL) == 0 && !pending(SIGUSR1) && count == 3);
    sigaddset(&set, SIGWINCH);
    CHECK(sigprocmask(SIG_BLOCK, &set, NULL) == 0 && kill(getpid(), SIGWINCH) == 0 && pending(SIGWINCH));
    signal(SIGWINCH, SIG_DFL);
    CHECK(!pending(SIGWINCH));

    // SIGKILL and SIGSTOP cannot be blocked, caught or ignored.
    sigfillset(&set);
    CHECK(sigprocmask(SIG_SETMASK, &set, NULL) == 0 && sigprocmask(SIG_SETMASK, NULL, &old) == 0);
    CHECK(!sigismember(&old, SIGKILL) && !sigismember(&old, SIGSTOP) && sigismember(&old, SIGTERM));
    CHECK_FAILS(sigaction(SIGKILL, &action, NULL), EINVAL);
    CHECK(signal(SIGSTOP, SIG_IGN) == SIG_ERR && errno == EINVAL);
    CHECK_FAILS(sigaction(65, &action, NULL), EINVAL);
    CHECK_FAILS(sigprocmask(77, &set, NULL), EINVAL);
    CHECK_FAILS(kill(getpid(), 65), EINVAL);
    CHECK(kill(getpid(), 0) == 0);
    say("handler ran %d times\n", (int)count);
    return 0;
}
