// Clocks: the monotonic one never goes back, neither by the vDSO nor by the system call, and the two agree; the others
// are where they should be; the resolution is a nanosecond.
#include "check.h"

static int64_t by_call(clockid_t clock) {
    struct timespec now;
    CHECK(syscall(SYS_clock_gettime, clock, &now) == 0);
    CHECK(now.tv_nsec >= 0 && now.tv_nsec < 1000000000);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

int main(void) {
    static const clockid_t clocks[] = {CLOCK_MONOTONIC, CLOCK_REALTIME, CLOCK_MONOTONIC_RAW, CLOCK_BOOTTIME,
                                       CLOCK_PROCESS_CPUTIME_ID, CLOCK_THREAD_CPUTIME_ID};
    for (size_t i = 0; i < COUNT(clocks); i++) {
        int64_t last = 0;
        for (int round = 0; round < 500; round++) {
            // By turns the library, which may not need the kernel, and the kernel.
            int64_t now = round % 2 ? now_ns(clocks[i]) : by_call(clocks[i]);
            CHECK(now >= last || clocks[i] == CLOCK_REALTIME);
            last = now;
        }
        struct timespec resolution;
        CHECK(clock_getres(clocks[i], &resolution) == 0 && resolution.tv_sec == 0 && resolution.tv_nsec >= 1);
    }
    struct timeval day;
    CHECK(gettimeofday(&day, NULL) == 0);
    int64_t real = now_ns(CLOCK_REALTIME), of_day = day.tv_sec * 1000000000LL + day.tv_usec * 1000;
    CHECK(real >= of_day && real - of_day < 5000000000);
    CHECK(llabs((int64_t)time(NULL) - real / 1000000000) <= 5 && real > 1600000000LL * 1000000000);
    CHECK(now_ns(CLOCK_BOOTTIME) >= by_call(CLOCK_MONOTONIC) - 1000000000);
    // The coarse ones lag behind by no more than a tick or so.
    int64_t coarse = now_ns(CLOCK_MONOTONIC_COARSE), fine = now_ns(CLOCK_MONOTONIC);
    CHECK(coarse <= fine && fine - coarse < 5000000000);

    // Sleep takes time of the world, not of the processor.
    int64_t start = now_ns(CLOCK_MONOTONIC), cpu = now_ns(CLOCK_PROCESS_CPUTIME_ID);
    sleep_ms(50);
    CHECK(now_ns(CLOCK_MONOTONIC) - start >= 50000000 && now_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu < 50000000);
    CHECK_FAILS(syscall(SYS_clock_gettime, 99, &day), EINVAL);
    clockid_t mine, other;
    CHECK(clock_getcpuclockid(getpid(), &mine) == 0 && clock_getcpuclockid(0, &other) == 0);
    CHECK(by_call(mine) > 0 && by_call(other) > 0);
    CHECK_PTHREAD(pthread_getcpuclockid(pthread_self(), &mine));
    CHECK(by_call(mine) > 0);
    say("clocks go forward\n");
    return 0;
}
