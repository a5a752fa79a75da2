// kill(getpid()) of an unblocked signal with a handler: the handler has run when kill returns.
// concept: 6 signals
#include "check.h"

static volatile sig_atomic_t got;

static void handler(int sig) { got = sig; }

int main(void) {
    struct sigaction action = {.sa_handler = handler};
    CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
    CHECK(kill(getpid(), SIGUSR1) == 0);
    CHECK(got == SIGUSR1);
    say("handler saw %s\n", signal_name(got));
    return 0;
}
