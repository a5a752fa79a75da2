// FUTEX_WAIT and FUTEX_WAKE: the value is compared first, so many are woken as asked, times relative and absolute,
// bit sets, private and shared, and across processes by the memory, not the address.
// concept: 1 who is who
#include "proc.h"
#include "thread.h"

static uint32_t word;
static atomic_int woken;
static struct gate ready;

static void *waiter(void *bits) {
    gate_open(ready);
    long result = syscall(SYS_futex, &word, FUTEX_WAIT_BITSET_PRIVATE, 0, NULL, NULL, (uint32_t)(uintptr_t)bits);
    CHECK(result == 0);
    woken++;
    return NULL;
}

// Wake until this many were woken: a waiter may not be asleep yet when it has announced itself.
static void wake(int count, uint32_t bits) {
    while (count > 0) {
        long result = syscall(SYS_futex, &word, FUTEX_WAKE_BITSET_PRIVATE, count, NULL, NULL, bits);
        CHECK(result >= 0 && result <= count);
        count -= (int)result;
    }
}

int main(void) {
    ready = gate_new();
    struct timespec short_time = {0, 20000000}, absolute;
    CHECK_FAILS(futex(&word, FUTEX_WAIT, 1, NULL), EAGAIN);
    CHECK(futex(&word, FUTEX_WAKE, 1, NULL) == 0);

    int64_t start = now_ns(CLOCK_MONOTONIC);
    CHECK_FAILS(futex(&word, FUTEX_WAIT, 0, &short_time), ETIMEDOUT);
    CHECK(now_ns(CLOCK_MONOTONIC) - start >= 20000000);
    // FUTEX_WAIT_BITSET takes a point in time, of the monotonic or the real-time clock.
    static const clockid_t clocks[] = {CLOCK_MONOTONIC, CLOCK_REALTIME};
    for (int i = 0; i < 2; i++) {
        start = now_ns(clocks[i]);
        int64_t until = start + 20000000;
        absolute = (struct timespec){until / 1000000000, until % 1000000000};
        int operation = FUTEX_WAIT_BITSET | (i ? FUTEX_CLOCK_REALTIME : 0);
        CHECK_FAILS(syscall(SYS_futex, &word, operation, 0, &absolute, NULL, ~0u), ETIMEDOUT);
        CHECK(now_ns(clocks[i]) >= until);
        // In the past: at once.
        CHECK_FAILS(syscall(SYS_futex, &word, operation, 0, &absolute, NULL, ~0u), ETIMEDOUT);
    }
    CHECK_FAILS(futex(&word, FUTEX_WAIT, 0, &(struct timespec){0, -1}), EINVAL);
    CHECK_FAILS(futex((char *)&word + 1, FUTEX_WAIT, 0, NULL), EINVAL);
    CHECK_FAILS(futex(bad_address, FUTEX_WAIT, 0, NULL), EFAULT);
    CHECK_FAILS(futex(&word, 99, 0, NULL), ENOSYS);
    CHECK_FAILS(syscall(SYS_futex, &word, FUTEX_WAIT_BITSET, 0, NULL, NULL, 0), EINVAL);
    say("times and errors\n");

    pthread_t threads[6];
    for (size_t i = 0; i < COUNT(threads); i++) threads[i] = start_thread(waiter, (void *)(uintptr_t)(i < 4 ? 1 : 2));
    for (size_t i = 0; i < COUNT(threads); i++) gate_wait(ready);
    wake(3, 1);
    for (size_t i = 0; i < 200 && woken < 3; i++) sleep_ms(1);
    wake(1, 1);
    // None with that bit is left, the other two are.
    CHECK(syscall(SYS_futex, &word, FUTEX_WAKE_BITSET_PRIVATE, 10, NULL, NULL, 1) == 0);
    wake(2, 3);
    for (size_t i = 0; i < COUNT(threads); i++) CHECK_PTHREAD(pthread_join(threads[i], NULL));
    CHECK(woken == 6);
    say("woken by number and by bits\n");

    // Across processes: the same page at two addresses is one futex, and a private one is somebody else's.
    uint32_t *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(shared != MAP_FAILED);
    pid_t pid = fork();
    if (pid == 0) {
        uint32_t *moved = mremap(shared, 4096, 4096, MREMAP_MAYMOVE | MREMAP_FIXED, (void *)0x10000000000);
        CHECK(moved != MAP_FAILED);
        gate_open(ready);
        CHECK(futex(moved + 5, FUTEX_WAIT, 0, NULL) == 0);
        _exit(0);
    }
    gate_wait(ready);
    CHECK(futex(shared + 6, FUTEX_WAKE, 1, NULL) == 0);
    while (futex(shared + 5, FUTEX_WAKE, 1, NULL) == 0) sleep_ms(1);
    CHECK(status_of(pid) == 0);
    say("woken in another process\n");
    return 0;
}
