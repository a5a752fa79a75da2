// Real-time signals queue: each one sent arrives, with its value, in the order sent, the lowest number first; the
// standard ones do not. RLIMIT_SIGPENDING bounds the queue.
// concept: 6 signals
#include "check.h"

static void handler(int sig, siginfo_t *info, void *context) {
    (void)context;
    say("%s value %d %s\n", signal_name(sig), info->si_value.sival_int,
        info->si_code == SI_QUEUE && info->si_pid == getpid() && info->si_uid == getuid() ? "queued by me" : "?");
}

static void queue(int sig, int number) {
    union sigval value = {.sival_int = number};
    CHECK(sigqueue(getpid(), sig, value) == 0);
}

int main(void) {
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};
    sigset_t all, old;
    sigfillset(&all);
    sigfillset(&action.sa_mask);
    CHECK(sigprocmask(SIG_BLOCK, &all, &old) == 0);
    int signals[] = {SIGRTMIN + 2, SIGRTMIN, SIGRTMIN + 1, SIGUSR1};
    for (size_t i = 0; i < COUNT(signals); i++) CHECK(sigaction(signals[i], &action, NULL) == 0);
    for (int round = 0; round < 3; round++)
        for (size_t i = 0; i < COUNT(signals); i++) queue(signals[i], 10 * round + (int)i);
    CHECK(sigprocmask(SIG_SETMASK, &old, NULL) == 0);

    // A forged code is refused to others, allowed to oneself; negative ones may be sent to anybody.
    pid_t pid = fork();
    if (pid == 0) {
        siginfo_t info = {.si_code = SI_USER};
        CHECK_FAILS(syscall(SYS_rt_sigqueueinfo, getppid(), SIGRTMIN, &info), EPERM);
        CHECK_FAILS(syscall(SYS_rt_tgsigqueueinfo, getppid(), getppid(), SIGRTMIN, &info), EPERM);
        signal(SIGRTMIN, SIG_IGN);
        CHECK(syscall(SYS_rt_sigqueueinfo, getpid(), SIGRTMIN, &info) == 0);

        // The limit is per user: it may be used up by others, but never exceeded by us.
        struct rlimit limit = {5, 5};
        CHECK(setrlimit(RLIMIT_SIGPENDING, &limit) == 0 && sigprocmask(SIG_BLOCK, &all, NULL) == 0);
        signal(SIGRTMIN, SIG_DFL);
        int queued = 0;
        union sigval value = {0};
        while (sigqueue(getpid(), SIGRTMIN, value) == 0) queued++;
        CHECK(errno == EAGAIN && queued <= 6);
        // kill has no information to lose: it always works.
        CHECK(kill(getpid(), SIGUSR1) == 0 && kill(getpid(), SIGRTMIN + 1) == 0);
        sigset_t pending;
        CHECK(sigpending(&pending) == 0 && sigismember(&pending, SIGUSR1) && sigismember(&pending, SIGRTMIN + 1));
        _exit(0);
    }
    CHECK(status_of(pid) == 0);
    say("limits as they should be\n");
    return 0;
}
