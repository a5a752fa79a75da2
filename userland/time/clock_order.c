// The clock never goes back, whether it is read through the C library, which asks the kernel only if it has to, or by a
// system call: also across busy times, sleeps, and a child.
// concept: 11 times
#include "check.h"

static int64_t by_library(clockid_t clock) {
    struct timespec now;
    CHECK(clock_gettime(clock, &now) == 0);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static int64_t by_call(clockid_t clock) {
    struct timespec now;
    CHECK(syscall(SYS_clock_gettime, clock, &now) == 0);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static volatile int spent;

static void in_turns(clockid_t clock, int rounds) {
    int64_t previous = by_call(clock);
    for (int round = 0; round < rounds; round++) {
        int64_t seen[] = {by_library(clock), by_call(clock), by_library(clock), by_library(clock)};
        for (size_t i = 0; i < COUNT(seen); i++) {
            CHECK(seen[i] >= previous);
            previous = seen[i];
        }
        if (round % 64 == 0)
            for (int i = 0; i < 200000; i++) spent++;
        if (round % 128 == 0) usleep(500);
    }
}

int main(void) {
    in_turns(CLOCK_MONOTONIC, 1000);
    in_turns(CLOCK_REALTIME, 1000);
    say("clocks in order\n");

    int64_t before = by_library(CLOCK_MONOTONIC);
    usleep(2000);
    CHECK(by_library(CLOCK_MONOTONIC) - before >= 2000000);
    say("a sleep takes its time\n");

    before = by_library(CLOCK_MONOTONIC);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        CHECK(by_library(CLOCK_MONOTONIC) >= before && by_call(CLOCK_MONOTONIC) >= before);
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    struct timeval day;
    CHECK(gettimeofday(&day, NULL) == 0);
    CHECK(time(NULL) >= day.tv_sec);
    say("a child sees the same clock\n");
    return 0;
}
