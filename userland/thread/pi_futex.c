// Priority-inheritance futexes: the word holds the owner's tid, the kernel hands it over, a dead owner leaves its mark,
// and a deadlock is refused. pthread mutexes of that protocol work on top.
// concept: 3 do_exit, in order
// qemu: no (it has no priority inheritance)
#include "thread.h"

static uint32_t word;
static struct gate ready, go;

static void *locks_and_waits(void *unused) {
    CHECK(futex(&word, FUTEX_LOCK_PI, 0, NULL) == 0);
    CHECK((word & FUTEX_TID_MASK) == (uint32_t)syscall(SYS_gettid));
    gate_open(ready);
    gate_wait(go);
    CHECK(futex(&word, FUTEX_UNLOCK_PI, 0, NULL) == 0);
    return unused;
}

static pthread_mutex_t mutex;
static int counter;

static void *increments(void *unused) {
    for (int i = 0; i < 200; i++) {
        CHECK_PTHREAD(pthread_mutex_lock(&mutex));
        int seen = counter;
        if (i % 20 == 0) sched_yield();
        counter = seen + 1;
        CHECK_PTHREAD(pthread_mutex_unlock(&mutex));
    }
    return unused;
}

int main(void) {
    ready = gate_new();
    go = gate_new();
    uint32_t me = (uint32_t)gettid();
    CHECK(futex(&word, FUTEX_LOCK_PI, 0, NULL) == 0 && word == me);
    CHECK_FAILS(futex(&word, FUTEX_LOCK_PI, 0, NULL), EDEADLK);
    CHECK(futex(&word, FUTEX_UNLOCK_PI, 0, NULL) == 0 && word == 0);

    pthread_t thread = start_thread(locks_and_waits, NULL);
    gate_wait(ready);
    CHECK_FAILS(futex(&word, FUTEX_TRYLOCK_PI, 0, NULL), EAGAIN);
    CHECK_FAILS(futex(&word, FUTEX_UNLOCK_PI, 0, NULL), EPERM);
    int64_t until = now_ns(CLOCK_REALTIME) + 20000000;
    CHECK_FAILS(futex(&word, FUTEX_LOCK_PI, 0, &(struct timespec){until / 1000000000, until % 1000000000}), ETIMEDOUT);
    gate_open(go);
    CHECK(futex(&word, FUTEX_LOCK_PI, 0, NULL) == 0 && (word & FUTEX_TID_MASK) == me);
    CHECK(futex(&word, FUTEX_UNLOCK_PI, 0, NULL) == 0);
    CHECK_PTHREAD(pthread_join(thread, NULL));
    say("handed over\n");

    word = 4194303;
    CHECK_FAILS(futex(&word, FUTEX_LOCK_PI, 0, NULL), ESRCH);
    word = 0;

    pthread_mutexattr_t attributes;
    CHECK_PTHREAD(pthread_mutexattr_init(&attributes));
    CHECK_PTHREAD(pthread_mutexattr_setprotocol(&attributes, PTHREAD_PRIO_INHERIT));
    CHECK_PTHREAD(pthread_mutex_init(&mutex, &attributes));
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) threads[i] = start_thread(increments, NULL);
    for (int i = 0; i < 4; i++) CHECK_PTHREAD(pthread_join(threads[i], NULL));
    say("mutex with inheritance: %d\n", counter);
    return counter != 800;
}
