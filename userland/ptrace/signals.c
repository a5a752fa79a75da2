// A tracee stops before each signal is delivered; the tracer sees its siginfo, lets it through, suppresses it or sends
// another one; SIGKILL does not ask. A traced child is stopped by exec with SIGTRAP when nothing else was asked for.
// concept: 8 ptrace
// qemu: no (it has no ptrace)
#include "self.h"
#include "trace.h"

static void handler(int sig, siginfo_t *info, void *context) {
    (void)context;
    say("tracee: %s value %d\n", signal_name(sig), info->si_value.sival_int);
}

static void tracee(void) {
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};
    CHECK(sigaction(SIGUSR1, &action, NULL) == 0 && sigaction(SIGUSR2, &action, NULL) == 0);
    CHECK(ptrace(PTRACE_TRACEME, 0, 0, 0) == 0);
    union sigval value = {.sival_int = 1};
    for (int i = 0; i < 4; i++) {
        value.sival_int = i;
        CHECK(sigqueue(getpid(), SIGUSR1, value) == 0);
    }
    // An ignored signal is shown to the tracer all the same.
    signal(SIGHUP, SIG_IGN);
    raise(SIGHUP);
    raise(SIGTERM);
    exec_self("executed", NULL);
}

int main(int argc, char **argv) {
    (void)argv;
    if (argc > 1) {
        say("executed\n");
        raise(SIGTERM);
        return 1;
    }
    self_path();
    pid_t pid = fork();
    if (pid == 0) tracee();
    int status = next_stop(pid);
    for (int i = 0; i < 4; i++) {
        siginfo_t info;
        CHECK(ptrace(PTRACE_GETSIGINFO, pid, 0, (uintptr_t)&info) == 0);
        CHECK(info.si_signo == SIGUSR1 && info.si_code == SI_QUEUE && info.si_pid == pid);
        say("%s with %d: ", stop_text(status), info.si_value.sival_int);
        int deliver = SIGUSR1;
        if (i == 0) {
            say("let through\n");
        } else if (i == 1) {
            say("suppressed\n");
            deliver = 0;
        } else if (i == 2) {
            say("replaced by SIGUSR2\n");
            deliver = SIGUSR2;
        } else {
            say("changed to 99\n");
            info.si_value.sival_int = 99;
            CHECK(ptrace(PTRACE_SETSIGINFO, pid, 0, (uintptr_t)&info) == 0);
        }
        CHECK(ptrace(PTRACE_CONT, pid, 0, (uintptr_t)deliver) == 0);
        status = next_stop(pid);
    }
    say("%s, ignored: let through\n", stop_text(status));
    CHECK(ptrace(PTRACE_CONT, pid, 0, SIGHUP) == 0);
    say("%s: suppressed\n", stop_text(next_stop(pid)));
    CHECK(ptrace(PTRACE_CONT, pid, 0, 0) == 0);
    say("exec: %s\n", stop_text(next_stop(pid)));
    CHECK(ptrace(PTRACE_CONT, pid, 0, 0) == 0);
    status = next_stop(pid);
    say("%s: let through\n", stop_text(status));
    CHECK(ptrace(PTRACE_CONT, pid, 0, SIGTERM) == 0);
    say("end: %s\n", stop_text(next_stop(pid)));

    pid = fork();
    if (pid == 0) {
        CHECK(ptrace(PTRACE_TRACEME, 0, 0, 0) == 0);
        raise(SIGUSR1);
        _exit(0);
    }
    say("%s, then SIGKILL: ", stop_text(next_stop(pid)));
    CHECK(kill(pid, SIGKILL) == 0);
    say("%s\n", stop_text(next_stop(pid)));
    return 0;
}
