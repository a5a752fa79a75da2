// Four threads take one mutex a thousand times each: no increment is lost.
// concept: 1 who is who
#include "check.h"

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static int counter;

static void *increment(void *unused) {
    for (int i = 0; i < 1000; i++) {
        CHECK_PTHREAD(pthread_mutex_lock(&mutex));
        int seen = counter;
        // Hand over in the middle now and then, so that the lock is really contended.
        if (i % 100 == 0) sched_yield();
        counter = seen + 1;
        CHECK_PTHREAD(pthread_mutex_unlock(&mutex));
    }
    return unused;
}

int main(void) {
    pthread_t threads[4];
    for (size_t i = 0; i < COUNT(threads); i++) CHECK_PTHREAD(pthread_create(&threads[i], NULL, increment, NULL));
    for (size_t i = 0; i < COUNT(threads); i++) CHECK_PTHREAD(pthread_join(threads[i], NULL));
    say("%d\n", counter);
    return counter != 4000;
}
