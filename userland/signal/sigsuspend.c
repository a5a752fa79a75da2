// sigsuspend, ppoll and pselect change the mask for the wait only: the handler runs with the mask of the wait (so that
// what the wait blocked stays blocked), and afterwards the old mask is back.
// concept: 6 signals
#include "check.h"
#include <poll.h>
#include <sys/select.h>

static volatile sig_atomic_t usr1, usr2, usr2_blocked_in_handler;

static bool blocked(int sig) {
    sigset_t now;
    CHECK(sigprocmask(SIG_SETMASK, NULL, &now) == 0);
    return sigismember(&now, sig);
}

static void handler(int sig) {
    if (sig == SIGUSR1) {
        usr1++;
        usr2_blocked_in_handler = blocked(SIGUSR2);
    } else {
        usr2++;
    }
}

static int by_sigsuspend(const sigset_t *mask) { return sigsuspend(mask); }
static int by_ppoll(const sigset_t *mask) { return ppoll(NULL, 0, NULL, mask); }
static int by_pselect(const sigset_t *mask) { return pselect(0, NULL, NULL, NULL, NULL, mask); }

int main(void) {
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};
    CHECK(sigaction(SIGUSR1, &action, NULL) == 0 && sigaction(SIGUSR2, &action, NULL) == 0);
    sigset_t both, only_usr2;
    sigemptyset(&both);
    sigaddset(&both, SIGUSR1);
    sigaddset(&both, SIGUSR2);
    sigemptyset(&only_usr2);
    sigaddset(&only_usr2, SIGUSR2);
    CHECK(sigprocmask(SIG_BLOCK, &both, NULL) == 0);

    static const struct {
        const char *name;
        int (*wait)(const sigset_t *mask);
    } waits[] = {{"sigsuspend", by_sigsuspend}, {"ppoll", by_ppoll}, {"pselect", by_pselect}};
    for (size_t i = 0; i < COUNT(waits); i++) {
        usr1 = usr2 = 0;
        // Both are pending: only the one that the wait lets in is delivered.
        raise(SIGUSR1), raise(SIGUSR2);
        errno = 0;
        int result = waits[i].wait(&only_usr2);
        say("%s: %d %s, USR1 %d, USR2 %d, USR2 blocked in the handler: %d\n", waits[i].name, result, errno_name(errno),
            (int)usr1, (int)usr2, (int)usr2_blocked_in_handler);
        CHECK(blocked(SIGUSR1) && blocked(SIGUSR2));
        // Now the other way round, and really asleep: a child sends it.
        sigset_t none;
        sigemptyset(&none);
        pid_t parent = getpid(), pid = fork();
        if (pid == 0) {
            sleep_ms(20);
            kill(parent, SIGUSR1);
            _exit(0);
        }
        CHECK(waits[i].wait(&none) == -1 && errno == EINTR && usr2 == 1);
        if (usr1 == 1) CHECK(waits[i].wait(&none) == -1 && errno == EINTR);
        CHECK(usr1 == 2 && blocked(SIGUSR1) && blocked(SIGUSR2));
        CHECK(status_of(pid) == 0);
    }

    // A ppoll that returns at once puts the mask back too, and delivers nothing.
    struct pollfd ready = {.fd = 1, .events = POLLOUT};
    raise(SIGUSR1);
    usr1 = 0;
    CHECK(ppoll(&ready, 1, NULL, &both) == 1 && usr1 == 0 && blocked(SIGUSR1));
    return 0;
}
