// FUTEX_CMP_REQUEUE wakes some and moves the rest to another futex without waking them; FUTEX_WAKE_OP changes one word
// and wakes on both.
// concept: 1 who is who
#include "thread.h"

static uint32_t first, second;
static atomic_int woken;
static atomic_int asleep;

static void *waiter(void *unused) {
    asleep++;
    CHECK(futex(&first, FUTEX_WAIT_PRIVATE, 0, NULL) == 0);
    woken++;
    return unused;
}

static void wait_for(int count) {
    while (woken < count) sched_yield();
}

int main(void) {
    enum { THREADS = 8 };
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) threads[i] = start_thread(waiter, NULL);
    while (asleep < THREADS) sched_yield();

    CHECK_FAILS(syscall(SYS_futex, &first, FUTEX_CMP_REQUEUE_PRIVATE, 1, 100L, &second, 77), EAGAIN);
    // Two woken, all the others moved; some may be on their way to sleep yet.
    int moved = 0, done = 0;
    while (done < 2) {
        long result = syscall(SYS_futex, &first, FUTEX_CMP_REQUEUE_PRIVATE, 2 - done, 0L, &second, 0);
        CHECK(result >= 0);
        done += (int)result;
    }
    wait_for(2);
    while (moved < THREADS - 2) {
        long result = syscall(SYS_futex, &first, FUTEX_CMP_REQUEUE_PRIVATE, 0, 100L, &second, 0);
        CHECK(result >= 0);
        moved += (int)result;
    }
    CHECK(woken == 2 && moved == THREADS - 2);
    CHECK(futex(&first, FUTEX_WAKE_PRIVATE, 100, NULL) == 0);
    CHECK(futex(&second, FUTEX_WAKE_PRIVATE, 3, NULL) == 3);
    wait_for(5);
    say("%d woken, %d moved, 3 woken there\n", 2, moved);

    // WAKE_OP: wake on the first (nobody is there); add 5 to the second and wake there if it was 0.
    uint32_t operation = FUTEX_OP(FUTEX_OP_ADD, 5, FUTEX_OP_CMP_EQ, 0);
    CHECK(syscall(SYS_futex, &first, FUTEX_WAKE_OP_PRIVATE, 1, 100L, &second, operation) == 3);
    CHECK(second == 5);
    CHECK(syscall(SYS_futex, &first, FUTEX_WAKE_OP_PRIVATE, 1, 100L, &second, operation) == 0 && second == 10);
    for (int i = 0; i < THREADS; i++) CHECK_PTHREAD(pthread_join(threads[i], NULL));
    say("3 woken by FUTEX_WAKE_OP, the word is %u\n", second);
    return 0;
}
