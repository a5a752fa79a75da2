// PR_SET_PDEATHSIG: the signal comes when the parent THREAD ends, although its process lives on. It is not inherited
// by fork.
// concept: 4 exit_notify: the family
// qemu: no (threads do not get their children's deaths right)
#include "thread.h"
#include <sys/prctl.h>

static struct gate ready, go, told;

static volatile sig_atomic_t sender;

static void handler(int sig, siginfo_t *info, void *context) {
    (void)sig, (void)context;
    sender = info->si_pid;
}

static void wait_for_death(const char *label) {
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};
    sigset_t set, old;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    CHECK(sigprocmask(SIG_BLOCK, &set, &old) == 0 && sigaction(SIGUSR1, &action, NULL) == 0);
    CHECK(prctl(PR_SET_PDEATHSIG, SIGUSR1) == 0);
    int value = 0;
    CHECK(prctl(PR_GET_PDEATHSIG, &value) == 0 && value == SIGUSR1);
    CHECK_FAILS(prctl(PR_SET_PDEATHSIG, 99), EINVAL);
    pid_t pid = fork();
    if (pid == 0) {
        CHECK(prctl(PR_GET_PDEATHSIG, &value) == 0 && value == 0);
        _exit(0);
    }
    CHECK(status_of(pid) == 0);
    gate_open(ready);
    sigsuspend(&old);
    say("%s: the child got its signal\n", label);
    gate_open(told);
    _exit(0);
}

static void *forks(void *unused) {
    pid_t pid = fork();
    if (pid == 0) wait_for_death("the parent thread ended");
    gate_wait(go);
    return unused;
}

int main(void) {
    ready = gate_new();
    go = gate_new();
    told = gate_new();
    pid_t pid = fork();
    if (pid == 0) {
        pid_t child = fork();
        if (child == 0) wait_for_death("the parent process ended");
        gate_wait(ready);
        _exit(0);
    }
    CHECK(status_of(pid) == 0);
    gate_wait(told);

    start_thread(forks, NULL);
    gate_wait(ready);
    gate_open(go);
    gate_wait(told);
    int status;
    CHECK(wait(&status) > 0 && status == 0);
    return 0;
}
