// Sixty-four threads on one futex: a lock written with nothing but an atomic exchange and the futex loses no
// increment; a broadcast wakes all of them.
// concept: 1 who is who
#include "thread.h"

enum { THREADS = 64, ROUNDS = 50 };

// 0 free, 1 taken, 2 taken and somebody waits.
static _Atomic uint32_t lock_word, start_word;
static int counter;

static void lock(void) {
    uint32_t expected = 0;
    if (atomic_compare_exchange_strong(&lock_word, &expected, 1)) return;
    while (atomic_exchange(&lock_word, 2) != 0) futex(&lock_word, FUTEX_WAIT_PRIVATE, 2, NULL);
}

static void unlock(void) {
    if (atomic_exchange(&lock_word, 0) == 2) futex(&lock_word, FUTEX_WAKE_PRIVATE, 1, NULL);
}

static void *body(void *unused) {
    while (!start_word) futex(&start_word, FUTEX_WAIT_PRIVATE, 0, NULL);
    for (int i = 0; i < ROUNDS; i++) {
        lock();
        int seen = counter;
        if (i % 10 == 0) sched_yield();
        counter = seen + 1;
        unlock();
    }
    return unused;
}

int main(void) {
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) threads[i] = start_thread(body, NULL);
    start_word = 1;
    futex(&start_word, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL);
    for (int i = 0; i < THREADS; i++) CHECK_PTHREAD(pthread_join(threads[i], NULL));
    say("%d\n", counter);
    return counter != THREADS * ROUNDS;
}
