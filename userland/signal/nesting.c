// The flags of sigaction: a signal is blocked in its own handler unless SA_NODEFER, sa_mask is blocked too, both are
// undone at the end; SA_RESETHAND makes it the last time. Several signals that become deliverable at once nest.
// concept: 6 signals
#include "check.h"

static char trace[128];

static void note(const char *text) { strcat(trace, text); }

static void simple(int sig) {
    note(sig == SIGUSR1 ? "<1" : sig == SIGUSR2 ? "<2" : "<H");
    if (sig == SIGUSR1 && strlen(trace) < 20) {
        raise(SIGUSR1);
        raise(SIGUSR2);
    }
    note(sig == SIGUSR1 ? "1>" : sig == SIGUSR2 ? "2>" : "H>");
}

static void show(const char *label) {
    say("%s: %s\n", label, trace);
    trace[0] = 0;
}

static void install(int sig, int flags, int masked) {
    struct sigaction action = {.sa_handler = simple, .sa_flags = flags};
    sigemptyset(&action.sa_mask);
    if (masked) sigaddset(&action.sa_mask, masked);
    CHECK(sigaction(sig, &action, NULL) == 0);
}

int main(void) {
    install(SIGUSR2, 0, 0);
    install(SIGHUP, 0, 0);

    install(SIGUSR1, 0, 0);
    raise(SIGUSR1);
    show("plain");
    install(SIGUSR1, 0, SIGUSR2);
    raise(SIGUSR1);
    show("USR2 in sa_mask");
    install(SIGUSR1, SA_NODEFER, 0);
    raise(SIGUSR1);
    show("SA_NODEFER");
    install(SIGUSR1, SA_NODEFER, SIGUSR1);
    raise(SIGUSR1);
    show("SA_NODEFER and itself in sa_mask");

    // The mask is as before each time.
    sigset_t now;
    CHECK(sigprocmask(SIG_SETMASK, NULL, &now) == 0);
    for (int sig = 1; sig < 32; sig++) CHECK(!sigismember(&now, sig));

    // All three pending at once: frames are stacked in the order of the numbers, so the last one runs first.
    install(SIGUSR1, 0, 0);
    strcpy(trace, "____________________");
    sigset_t all, old;
    sigfillset(&all);
    CHECK(sigprocmask(SIG_BLOCK, &all, &old) == 0);
    raise(SIGUSR2), raise(SIGUSR1), raise(SIGHUP);
    CHECK(sigprocmask(SIG_SETMASK, &old, NULL) == 0);
    show("three at once");

    install(SIGUSR2, SA_RESETHAND, 0);
    struct sigaction action;
    raise(SIGUSR2);
    CHECK(sigaction(SIGUSR2, NULL, &action) == 0 && action.sa_handler == SIG_DFL);
    show("SA_RESETHAND, first time");
    pid_t pid = fork();
    if (pid == 0) {
        raise(SIGUSR2);
        _exit(0);
    }
    say("second time: %s\n", status_text(status_of(pid)));
    return 0;
}
