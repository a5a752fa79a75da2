// nanosleep that a handler interrupts says EINTR and how much is left; going on with the rest makes the whole time.
// concept: 6 signals
#include "check.h"

static volatile sig_atomic_t ticks;

static void tick(int sig) {
    (void)sig;
    ticks++;
}

int main(void) {
    struct sigaction action = {.sa_handler = tick, .sa_flags = SA_RESTART};
    struct itimerval every = {{0, 20000}, {0, 20000}}, off = {{0, 0}, {0, 0}};
    CHECK(sigaction(SIGALRM, &action, NULL) == 0);
    const int64_t wanted = 200000000;
    struct timespec left = {0, wanted};
    int64_t start = now_ns(CLOCK_MONOTONIC);
    CHECK(setitimer(ITIMER_REAL, &every, NULL) == 0);
    int interrupted = 0;
    for (;;) {
        struct timespec before = left;
        if (nanosleep(&before, &left) == 0) break;
        CHECK(errno == EINTR);
        interrupted++;
        int64_t rest = left.tv_sec * 1000000000LL + left.tv_nsec;
        CHECK(rest > 0 && rest <= before.tv_sec * 1000000000LL + before.tv_nsec);
    }
    CHECK(setitimer(ITIMER_REAL, &off, NULL) == 0);
    CHECK(now_ns(CLOCK_MONOTONIC) - start >= wanted);
    CHECK(interrupted >= 1 && ticks >= interrupted);

    // An absolute sleep needs no rest and leaves none.
    struct timespec until, rest = {5, 5};
    CHECK(clock_gettime(CLOCK_MONOTONIC, &until) == 0);
    until.tv_nsec += 100000000;
    if (until.tv_nsec >= 1000000000) until.tv_sec++, until.tv_nsec -= 1000000000;
    CHECK(setitimer(ITIMER_REAL, &every, NULL) == 0);
    CHECK(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, &rest) == EINTR && rest.tv_sec == 5);
    CHECK(setitimer(ITIMER_REAL, &off, NULL) == 0);
    CHECK_FAILS(nanosleep(&(struct timespec){0, 1000000000}, NULL), EINVAL);
    CHECK_FAILS(nanosleep(&(struct timespec){-1, 0}, NULL), EINVAL);
    say("interrupted, and slept the whole time\n");
    return 0;
}
