// Every clock: it runs, has a resolution, and can be slept on or not. CPU clocks of other threads and processes. The
// clock cannot be set by who may not.
// concept: 11 what people look at afterwards
#include "check.h"
#include <sys/timex.h>

static void *idle(void *gate) {
    gate_wait(*(struct gate *)gate);
    return NULL;
}

int main(void) {
    const clockid_t clocks[] = {CLOCK_REALTIME,           CLOCK_MONOTONIC,       CLOCK_PROCESS_CPUTIME_ID,
                                CLOCK_THREAD_CPUTIME_ID,  CLOCK_MONOTONIC_RAW,   CLOCK_REALTIME_COARSE,
                                CLOCK_MONOTONIC_COARSE,   CLOCK_BOOTTIME,        CLOCK_TAI};
    for (size_t i = 0; i < COUNT(clocks); i++) {
        struct timespec resolution;
        int64_t before = now_ns(clocks[i]);
        CHECK(syscall(SYS_clock_getres, clocks[i], &resolution) == 0 && resolution.tv_sec == 0);
        CHECK(resolution.tv_nsec >= 1 && resolution.tv_nsec <= 10000000);
        CHECK(syscall(SYS_clock_getres, clocks[i], NULL) == 0);
        CHECK(now_ns(clocks[i]) >= before);
        int error = clock_nanosleep(clocks[i], 0, &(struct timespec){0, 1000000}, NULL);
        say("clock %d sleeps: %s\n", (int)clocks[i], clocks[i] == CLOCK_PROCESS_CPUTIME_ID ? "?" : errno_name(error));
        if (i == 1) i++;  // nobody would burn the processor time that a sleep on it waits for
    }
    CHECK_FAILS(clock_gettime(99, &(struct timespec){0, 0}), EINVAL);
    CHECK_FAILS(syscall(SYS_clock_gettime, CLOCK_REALTIME, 8), EFAULT);
    CHECK_FAILS(clock_settime(CLOCK_MONOTONIC, &(struct timespec){0, 0}), EINVAL);
    CHECK_FAILS(clock_settime(CLOCK_REALTIME, &(struct timespec){0, -1}), EINVAL);

    // The processor time of a thread that sleeps stands still; that of the process is the sum.
    struct gate gate = gate_new();
    pthread_t thread;
    clockid_t clock;
    CHECK_PTHREAD(pthread_create(&thread, NULL, idle, &gate));
    sleep_ms(20);
    CHECK_PTHREAD(pthread_getcpuclockid(thread, &clock));
    int64_t then = now_ns(clock);
    int64_t mine = now_ns(CLOCK_THREAD_CPUTIME_ID);
    while (now_ns(CLOCK_THREAD_CPUTIME_ID) < mine + 20000000) continue;
    CHECK(now_ns(clock) - then < 5000000);
    CHECK(now_ns(CLOCK_PROCESS_CPUTIME_ID) >= now_ns(CLOCK_THREAD_CPUTIME_ID));
    gate_open(gate);
    CHECK_PTHREAD(pthread_join(thread, NULL));
    CHECK_FAILS(clock_gettime(clock, &(struct timespec){0, 0}), EINVAL);
    say("thread clock\n");

    // Sleep until a child has used some processor time.
    pid_t pid = fork();
    if (pid == 0)
        for (;;) continue;
    CHECK(clock_getcpuclockid(pid, &clock) == 0);
    CHECK(clock_nanosleep(clock, TIMER_ABSTIME, &(struct timespec){0, 50000000}, NULL) == 0);
    CHECK(now_ns(clock) >= 50000000);
    CHECK(kill(pid, SIGKILL) == 0);
    status_of(pid);
    say("process clock\n");

    struct timex timex = {0};
    CHECK(adjtimex(&timex) >= 0 && timex.tick >= 9000 && timex.tick <= 11000);
    struct timeval now;
    CHECK(gettimeofday(&now, NULL) == 0);
    CHECK(llabs(now_ns(CLOCK_REALTIME) / 1000000000 - now.tv_sec) <= 1);
    return 0;
}
