// A handler that cannot be set up, for want of a stack to write the frame to, is a SIGSEGV that no handler can catch
// on that stack: the process dies.
// concept: 6 signals
// qemu: no (it forgets the forced signal)
#include "check.h"

static void handler(int sig) {
    (void)sig;
    say("the handler must not run\n");
}

static int die(int sig, bool catch_segv) {
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        struct rlimit none = {0, 0};
        setrlimit(RLIMIT_CORE, &none);
        stack_t stack = {.ss_size = 65536};
        stack.ss_sp = mmap(NULL, stack.ss_size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        struct sigaction action = {.sa_handler = handler, .sa_flags = SA_ONSTACK};
        CHECK(sigaltstack(&stack, NULL) == 0 && sigaction(sig, &action, NULL) == 0);
        if (catch_segv) CHECK(sigaction(SIGSEGV, &action, NULL) == 0);
        kill(getpid(), sig);
        _exit(0);
    }
    return status_of(pid);
}

static void caught(int sig) {
    say("SIGSEGV instead of SIGUSR1 is caught on the good stack: %s\n", signal_name(sig));
    _exit(5);
}

int main(void) {
    say("SIGUSR1: %s\n", status_text(die(SIGUSR1, false)));
    say("SIGUSR1, SIGSEGV caught on the same stack: %s\n", status_text(die(SIGUSR1, true)));
    say("SIGSEGV: %s\n", status_text(die(SIGSEGV, false)));

    // The forced SIGSEGV can be caught by a handler on the normal stack.
    pid_t pid = fork();
    if (pid == 0) {
        stack_t stack = {.ss_size = 65536};
        stack.ss_sp = mmap(NULL, stack.ss_size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        struct sigaction action = {.sa_handler = handler, .sa_flags = SA_ONSTACK}, segv = {.sa_handler = caught};
        CHECK(sigaltstack(&stack, NULL) == 0);
        CHECK(sigaction(SIGUSR1, &action, NULL) == 0 && sigaction(SIGSEGV, &segv, NULL) == 0);
        kill(getpid(), SIGUSR1);
        _exit(0);
    }
    say("SIGSEGV caught elsewhere: %s\n", status_text(status_of(pid)));
    return 0;
}
