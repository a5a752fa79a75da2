// What a tracer can do with signals and stops: attach, seize, interrupt, listen, look at siginfo and masks, drop, change
// and inject signals, detach into a stop, kill.
// concept: 8
// qemu: no (it does not implement ptrace)
#include "check.h"
#include <sys/ptrace.h>

#define EVENT_STOP 128

static struct gate ready, handled;

static void handler(int sig, siginfo_t *info, void *context) {
    (void)context;
    say("  tracee: %s code %d value %d\n", signal_name(sig), info->si_code,
        info->si_code == SI_QUEUE ? info->si_value.sival_int : 0);
    gate_open(handled);
}

static pid_t start(void) {
    pid_t pid = fork();
    if (pid) {
        gate_wait(ready);
        return pid;
    }
    // A group with a parent in another one is not orphaned, whoever started us: SIGTSTP stops it.
    CHECK(setpgid(0, 0) == 0);
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};
    for (int sig = SIGUSR1; sig <= SIGUSR2; sig += SIGUSR2 - SIGUSR1) CHECK(sigaction(sig, &action, NULL) == 0);
    gate_open(ready);
    for (;;) pause();
}

static int wait_stop(pid_t pid) {
    int status;
    CHECK(waitpid(pid, &status, __WALL) == pid);
    if (WIFSTOPPED(status)) say("stop %s%s\n", signal_name(WSTOPSIG(status)), status >> 16 ? " (event)" : "");
    else say("%s\n", status_text(status));
    return status;
}

static void go_on(pid_t pid, int sig) { CHECK(ptrace(PTRACE_CONT, pid, NULL, (long)sig) == 0); }

static void finish(pid_t pid) {
    CHECK(kill(pid, SIGKILL) == 0);
    say("%s\n", status_text(status_of(pid)));
}

static void attach(void) {
    say("-- attach\n");
    pid_t pid = start();
    CHECK_FAILS(ptrace(PTRACE_CONT, pid, NULL, NULL), ESRCH);
    CHECK_FAILS(ptrace(PTRACE_ATTACH, getpid(), NULL, NULL), EPERM);
    CHECK(ptrace(PTRACE_ATTACH, pid, NULL, NULL) == 0);
    CHECK_FAILS(ptrace(PTRACE_ATTACH, pid, NULL, NULL), EPERM);
    wait_stop(pid);
    CHECK_FAILS(ptrace(PTRACE_INTERRUPT, pid, NULL, NULL), EIO);
    CHECK_FAILS(ptrace(PTRACE_LISTEN, pid, NULL, NULL), EIO);

    siginfo_t info;
    CHECK(ptrace(PTRACE_GETSIGINFO, pid, NULL, &info) == 0);
    say("siginfo %s code %d\n", signal_name(info.si_signo), info.si_code);

    // Signals queue up while it is stopped, and can be looked at.
    for (int i = 1; i <= 3; i++) CHECK(sigqueue(pid, SIGRTMIN, (union sigval){.sival_int = i}) == 0);
    siginfo_t queued[4];
    struct {
        uint64_t off;
        uint32_t flags;
        int32_t nr;
    } peek = {1, 1, 4};
    CHECK(ptrace((int)0x4209, pid, &peek, queued) == 2);
    say("queued: %d %d\n", queued[0].si_value.sival_int, queued[1].si_value.sival_int);
    go_on(pid, 0);
    for (int i = 1; i <= 3; i++) {
        wait_stop(pid);
        go_on(pid, 0);  // dropped: none of them kills it
    }

    // One signal becomes another, with a siginfo of the tracer's making.
    CHECK(kill(pid, SIGTERM) == 0);
    wait_stop(pid);
    go_on(pid, SIGUSR1);
    gate_wait(handled);
    CHECK(kill(pid, SIGUSR2) == 0);
    wait_stop(pid);
    CHECK(ptrace(PTRACE_GETSIGINFO, pid, NULL, &info) == 0);
    info.si_code = SI_QUEUE;
    info.si_value.sival_int = 42;
    CHECK(ptrace(PTRACE_SETSIGINFO, pid, NULL, &info) == 0);
    go_on(pid, SIGUSR2);
    gate_wait(handled);

    // The mask.
    CHECK(kill(pid, SIGTERM) == 0);
    wait_stop(pid);
    uint64_t mask = ~0ull;
    CHECK_FAILS(ptrace((int)0x420b, pid, 4L, &mask), EINVAL);
    CHECK(ptrace((int)0x420b, pid, 8L, &mask) == 0 && ptrace((int)0x420a, pid, 8L, &mask) == 0);
    say("mask %#lx\n", (unsigned long)mask);
    mask = 0;
    CHECK(ptrace((int)0x420b, pid, 8L, &mask) == 0);

    CHECK(ptrace(PTRACE_DETACH, pid, NULL, (long)SIGUSR1) == 0);
    CHECK_FAILS(ptrace(PTRACE_CONT, pid, NULL, NULL), ESRCH);
    gate_wait(handled);
    finish(pid);
}

static void group_stop(void) {
    say("-- group stop of an attached process\n");
    pid_t pid = start();
    CHECK(ptrace(PTRACE_ATTACH, pid, NULL, NULL) == 0);
    wait_stop(pid);
    go_on(pid, 0);
    CHECK(kill(pid, SIGTSTP) == 0);
    wait_stop(pid);
    go_on(pid, SIGTSTP);
    wait_stop(pid);  // the group stop itself: there is no siginfo
    siginfo_t info;
    CHECK_FAILS(ptrace(PTRACE_GETSIGINFO, pid, NULL, &info), EINVAL);
    CHECK(ptrace(PTRACE_DETACH, pid, NULL, NULL) == 0);  // it stays stopped
    int status;
    CHECK(waitpid(pid, &status, WUNTRACED) == pid);
    say("parent sees: %s\n", status_text(status));

    // Attaching to a stopped process: it changes over at once.
    CHECK(ptrace(PTRACE_SEIZE, pid, NULL, NULL) == 0);
    status = wait_stop(pid);
    CHECK(status >> 16 == EVENT_STOP);
    CHECK(ptrace(PTRACE_LISTEN, pid, NULL, NULL) == 0);
    CHECK_FAILS(ptrace(PTRACE_CONT, pid, NULL, NULL), ESRCH);
    CHECK(waitpid(pid, &status, __WALL | WNOHANG) == 0);
    CHECK(kill(pid, SIGCONT) == 0);
    status = wait_stop(pid);  // SIGTRAP: the group stop is over
    CHECK(status >> 16 == EVENT_STOP);
    go_on(pid, 0);
    wait_stop(pid);  // SIGCONT itself
    go_on(pid, SIGCONT);
    finish(pid);
}

static void seize(void) {
    say("-- seize\n");
    pid_t pid = start();
    CHECK_FAILS(ptrace(PTRACE_SEIZE, pid, 1L, NULL), EIO);
    CHECK_FAILS(ptrace(PTRACE_SEIZE, pid, NULL, 1L << 30), EIO);
    CHECK(ptrace(PTRACE_SEIZE, pid, NULL, (long)PTRACE_O_TRACEEXIT) == 0);
    CHECK_FAILS(ptrace(PTRACE_CONT, pid, NULL, NULL), ESRCH);
    CHECK(ptrace(PTRACE_INTERRUPT, pid, NULL, NULL) == 0);
    CHECK(wait_stop(pid) >> 16 == EVENT_STOP);
    siginfo_t info;
    CHECK(ptrace(PTRACE_GETSIGINFO, pid, NULL, &info) == 0);
    say("siginfo %s code %#x\n", signal_name(info.si_signo), info.si_code);
    CHECK(ptrace(PTRACE_INTERRUPT, pid, NULL, NULL) == 0);  // one more, after this one
    go_on(pid, 0);
    CHECK(wait_stop(pid) >> 16 == EVENT_STOP);
    CHECK_FAILS(ptrace(PTRACE_CONT, pid, NULL, 65L), EIO);
    go_on(pid, 0);
    CHECK(kill(pid, SIGUSR1) == 0);
    wait_stop(pid);
    go_on(pid, SIGUSR1);
    gate_wait(handled);
    CHECK(kill(pid, SIGTERM) == 0);
    wait_stop(pid);
    go_on(pid, SIGTERM);
    CHECK(wait_stop(pid) >> 16 == PTRACE_EVENT_EXIT);
    unsigned long message;
    CHECK(ptrace(PTRACE_GETEVENTMSG, pid, NULL, &message) == 0);
    say("message %#lx\n", message);
    go_on(pid, 0);
    wait_stop(pid);

    say("-- kill\n");
    pid = start();
    CHECK(ptrace(PTRACE_SEIZE, pid, NULL, NULL) == 0);
    CHECK(ptrace(PTRACE_KILL, pid, NULL, NULL) == 0);
    wait_stop(pid);
}

int main(void) {
    ready = gate_new();
    handled = gate_new();
    attach();
    group_stop();
    seize();
}
