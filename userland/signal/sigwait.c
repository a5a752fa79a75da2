// sigtimedwait takes a blocked signal out of the queue without a handler, with its siginfo, lowest number first; it
// says EAGAIN when the time is up and EINTR when another handler ran.
// concept: 6 signals
#include "check.h"

// The call itself: musl's wrapper goes on after EINTR, glibc's changes the code.
static long timed_wait(const sigset_t *set, siginfo_t *info, const struct timespec *timeout) {
    return syscall(SYS_rt_sigtimedwait, set, info, timeout, 8);
}

static volatile sig_atomic_t handled;

static void handler(int sig) {
    (void)sig;
    handled = 1;
}

int main(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGUSR2);
    sigaddset(&set, SIGRTMIN);
    CHECK(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
    siginfo_t info;
    struct timespec now = {0, 0}, short_time = {0, 20000000}, bad = {0, 2000000000};
    CHECK_FAILS(timed_wait(&set, &info, &now), EAGAIN);
    CHECK_FAILS(timed_wait(&set, &info, &short_time), EAGAIN);
    CHECK_FAILS(timed_wait(&set, &info, &bad), EINVAL);

    union sigval value = {.sival_int = 77};
    CHECK(sigqueue(getpid(), SIGRTMIN, value) == 0);
    CHECK(kill(getpid(), SIGUSR2) == 0 && syscall(SYS_tgkill, getpid(), gettid(), SIGUSR1) == 0);
    CHECK(timed_wait(&set, &info, NULL) == SIGUSR1 && info.si_code == SI_TKILL && info.si_pid == getpid());
    CHECK(timed_wait(&set, &info, NULL) == SIGUSR2 && info.si_code == SI_USER && info.si_uid == getuid());
    CHECK(timed_wait(&set, &info, NULL) == SIGRTMIN && info.si_code == SI_QUEUE && info.si_value.sival_int == 77);
    CHECK_FAILS(timed_wait(&set, &info, &now), EAGAIN);

    // Asleep until a child sends one; its siginfo names the child.
    pid_t parent = getpid(), pid = fork();
    if (pid == 0) {
        sleep_ms(20);
        kill(parent, SIGUSR2);
        _exit(0);
    }
    int sig;
    CHECK(timed_wait(&set, &info, NULL) == SIGUSR2 && info.si_pid == pid);
    CHECK(status_of(pid) == 0);
    CHECK(raise(SIGUSR1) == 0 && sigwait(&set, &sig) == 0 && sig == SIGUSR1);

    // A signal outside the set with a handler: EINTR, also with SA_RESTART. The timer repeats, so none can be early.
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};
    struct itimerval tick = {{0, 20000}, {0, 20000}}, off = {{0, 0}, {0, 0}};
    CHECK(sigaction(SIGALRM, &action, NULL) == 0 && setitimer(ITIMER_REAL, &tick, NULL) == 0);
    CHECK(timed_wait(&set, &info, NULL) == -1 && errno == EINTR && handled);
    CHECK(setitimer(ITIMER_REAL, &off, NULL) == 0);

    // Ignored but waited for: it is blocked, so it is kept.
    signal(SIGUSR1, SIG_IGN);
    CHECK(raise(SIGUSR1) == 0 && timed_wait(&set, &info, &now) == SIGUSR1);
    say("sigwait as it should be\n");
    return 0;
}
