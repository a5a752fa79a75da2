// Five hundred threads at once, each with its own tid, stack and thread-local storage; then as many one after another.
// concept: 1 who is who
#include "thread.h"

enum { THREADS = 500 };

static _Thread_local int local = 7;
static pid_t tids[THREADS];
static atomic_int running;
static atomic_bool go;
static uint32_t word;

static void *body(void *number) {
    int i = (int)(intptr_t)number;
    local += i;
    tids[i] = gettid();
    running++;
    while (!go) futex(&word, FUTEX_WAIT_PRIVATE, 0, NULL);
    CHECK(local == 7 + i);
    return (void *)(intptr_t)(i * 2);
}

static void *nothing(void *argument) { return argument; }

static int compare(const void *one, const void *two) { return *(const pid_t *)one - *(const pid_t *)two; }

int main(void) {
    static pthread_t threads[THREADS];
    pthread_attr_t attributes;
    CHECK_PTHREAD(pthread_attr_init(&attributes));
    CHECK_PTHREAD(pthread_attr_setstacksize(&attributes, 131072));
    for (intptr_t i = 0; i < THREADS; i++) CHECK_PTHREAD(pthread_create(&threads[i], &attributes, body, (void *)i));
    while (running < THREADS) sched_yield();
    go = true;
    word = 1;
    futex(&word, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL);
    long sum = 0;
    for (int i = 0; i < THREADS; i++) {
        void *result;
        CHECK_PTHREAD(pthread_join(threads[i], &result));
        sum += (intptr_t)result;
    }
    CHECK(sum == (long)THREADS * (THREADS - 1));
    qsort(tids, THREADS, sizeof *tids, compare);
    for (int i = 1; i < THREADS; i++) CHECK(tids[i] != tids[i - 1] && tids[i] != getpid());
    say("%d threads at once\n", THREADS);

    for (intptr_t i = 0; i < THREADS; i++) {
        void *result;
        CHECK_PTHREAD(pthread_create(&threads[0], &attributes, nothing, (void *)i));
        CHECK_PTHREAD(pthread_join(threads[0], &result));
        CHECK((intptr_t)result == i);
    }
    say("%d threads in turn\n", THREADS);
    return 0;
}
