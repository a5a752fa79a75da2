// siglongjmp out of a handler: with the saved mask the signal is unblocked again, with plain longjmp it stays blocked.
// concept: 6 signals
#include "check.h"
#include <setjmp.h>

static sigjmp_buf with_mask, without_mask;
static bool restore;

static void handler(int sig) {
    (void)sig;
    siglongjmp(restore ? with_mask : without_mask, 1);
}

static bool blocked(int sig) {
    sigset_t now;
    CHECK(sigprocmask(SIG_SETMASK, NULL, &now) == 0);
    return sigismember(&now, sig);
}

int main(void) {
    struct sigaction action = {.sa_handler = handler};
    CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
    restore = true;
    static volatile int jumps;
    for (jumps = 0; jumps < 5;) {
        if (sigsetjmp(with_mask, 1) == 0) {
            raise(SIGUSR1);
            CHECK(false);
        }
        jumps++;
        CHECK(!blocked(SIGUSR1));
    }
    restore = false;
    if (sigsetjmp(without_mask, 0) == 0) {
        raise(SIGUSR1);
        CHECK(false);
    }
    CHECK(blocked(SIGUSR1));
    say("%d jumps out of a handler\n", jumps);
    return 0;
}
