// sigaltstack: handlers with SA_ONSTACK run there, nested ones stay there, SS_AUTODISARM switches it off meanwhile,
// and it cannot be changed while in use. A new thread has none, a forked child has its parent's.
// concept: 6 signals
// qemu: no (SS_AUTODISARM is not known to it)
#include "check.h"

#ifndef SS_AUTODISARM
#define SS_AUTODISARM (1u << 31)
#endif

static char stack_memory[65536] __attribute__((aligned(16)));
static volatile sig_atomic_t depth;

static bool on_it(void) {
    char here;
    return &here >= stack_memory && &here < stack_memory + sizeof stack_memory;
}

static const char *state(void) {
    stack_t now;
    CHECK(sigaltstack(NULL, &now) == 0);
    return now.ss_flags & SS_DISABLE ? "disabled" : now.ss_flags & SS_ONSTACK ? "in use" : "free";
}

static void handler(int sig) {
    say("%s depth %d: on the %s stack, %s\n", signal_name(sig), (int)depth, on_it() ? "alternate" : "normal", state());
    stack_t other = {.ss_sp = malloc(65536), .ss_size = 65536};
    int result = sigaltstack(&other, NULL);
    if (result == -1) say("changing it: %s\n", errno_name(errno));
    else CHECK(sigaltstack(&(stack_t){.ss_flags = SS_DISABLE}, NULL) == 0);
    free(other.ss_sp);
    if (depth++ == 0) raise(SIGUSR2);
}

static void install(int sig, int flags) {
    struct sigaction action = {.sa_handler = handler, .sa_flags = flags};
    CHECK(sigaction(sig, &action, NULL) == 0);
}

static void *thread(void *unused) {
    say("thread: %s\n", state());
    return unused;
}

int main(void) {
    stack_t stack = {.ss_sp = stack_memory, .ss_size = sizeof stack_memory};
    install(SIGUSR1, SA_ONSTACK);
    install(SIGUSR2, SA_ONSTACK);
    say("at first: %s\n", state());
    raise(SIGUSR1);

    CHECK(sigaltstack(&stack, NULL) == 0);
    say("set: %s\n", state());
    depth = 0;
    raise(SIGUSR1);
    depth = 1;
    install(SIGUSR1, 0);
    say("without SA_ONSTACK\n");
    raise(SIGUSR1);
    CHECK(sigaltstack(&stack, NULL) == 0);

    // SS_AUTODISARM: inside the handler there is none, so a nested one starts at the top again if it is set anew; at
    // the end it is restored.
    install(SIGUSR1, SA_ONSTACK);
    stack.ss_flags = (int)SS_AUTODISARM;
    CHECK(sigaltstack(&stack, NULL) == 0);
    depth = 1;
    say("SS_AUTODISARM\n");
    raise(SIGUSR1);
    say("afterwards: %s\n", state());

    pthread_t id;
    CHECK_PTHREAD(pthread_create(&id, NULL, thread, NULL));
    CHECK_PTHREAD(pthread_join(id, NULL));
    pid_t pid = fork();
    if (pid == 0) {
        say("child: %s\n", state());
        _exit(0);
    }
    CHECK(status_of(pid) == 0);

    stack.ss_flags = 0;
    stack.ss_size = 100;
    CHECK_FAILS(sigaltstack(&stack, NULL), ENOMEM);
    stack.ss_size = sizeof stack_memory;
    stack.ss_flags = 12345;
    CHECK_FAILS(sigaltstack(&stack, NULL), EINVAL);
    stack.ss_flags = SS_DISABLE;
    CHECK(sigaltstack(&stack, NULL) == 0);
    say("at last: %s\n", state());
    return 0;
}
