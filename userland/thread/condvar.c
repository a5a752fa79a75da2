// Condition variables: signal wakes one, broadcast all, a timed wait ends at its time with the mutex held; barriers,
// semaphores and reader-writer locks on top of the same futexes.
// concept: 1 who is who
#include "thread.h"
#include <semaphore.h>

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int waiting, tokens, taken;

static void *takes(void *unused) {
    CHECK_PTHREAD(pthread_mutex_lock(&mutex));
    waiting++;
    while (tokens == 0) CHECK_PTHREAD(pthread_cond_wait(&changed, &mutex));
    tokens--, taken++;
    CHECK_PTHREAD(pthread_mutex_unlock(&mutex));
    return unused;
}

static pthread_barrier_t barrier;
static atomic_int phase_count[5], serial;

static void *phases(void *unused) {
    for (int phase = 0; phase < 5; phase++) {
        phase_count[phase]++;
        int result = pthread_barrier_wait(&barrier);
        CHECK(result == 0 || result == PTHREAD_BARRIER_SERIAL_THREAD);
        serial += result == PTHREAD_BARRIER_SERIAL_THREAD;
        CHECK(phase_count[phase] == 8);
    }
    return unused;
}

static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
static atomic_int readers, writers;
static int value;

static void *reads_and_writes(void *unused) {
    for (int i = 0; i < 50; i++) {
        if (i % 5 == 0) {
            CHECK_PTHREAD(pthread_rwlock_wrlock(&rwlock));
            CHECK(++writers == 1 && readers == 0);
            value++;
            writers--;
        } else {
            CHECK_PTHREAD(pthread_rwlock_rdlock(&rwlock));
            readers++;
            CHECK(writers == 0);
            readers--;
        }
        CHECK_PTHREAD(pthread_rwlock_unlock(&rwlock));
    }
    return unused;
}

static void run(int count, void *(*body)(void *)) {
    pthread_t threads[16];
    for (int i = 0; i < count; i++) threads[i] = start_thread(body, NULL);
    for (int i = 0; i < count; i++) CHECK_PTHREAD(pthread_join(threads[i], NULL));
}

int main(void) {
    pthread_t threads[10];
    for (int i = 0; i < 10; i++) threads[i] = start_thread(takes, NULL);
    for (bool all = false; !all; sched_yield()) {
        CHECK_PTHREAD(pthread_mutex_lock(&mutex));
        all = waiting == 10;
        CHECK_PTHREAD(pthread_mutex_unlock(&mutex));
    }
    for (int i = 0; i < 3; i++) {
        CHECK_PTHREAD(pthread_mutex_lock(&mutex));
        tokens++;
        CHECK_PTHREAD(pthread_cond_signal(&changed));
        CHECK_PTHREAD(pthread_mutex_unlock(&mutex));
    }
    for (int now = 0; now < 3; sched_yield()) {
        CHECK_PTHREAD(pthread_mutex_lock(&mutex));
        now = taken;
        CHECK_PTHREAD(pthread_mutex_unlock(&mutex));
    }
    CHECK_PTHREAD(pthread_mutex_lock(&mutex));
    CHECK(taken == 3);
    tokens = 7;
    CHECK_PTHREAD(pthread_cond_broadcast(&changed));
    CHECK_PTHREAD(pthread_mutex_unlock(&mutex));
    for (int i = 0; i < 10; i++) CHECK_PTHREAD(pthread_join(threads[i], NULL));
    say("3 by signal, %d by broadcast\n", taken - 3);

    int64_t until = now_ns(CLOCK_REALTIME) + 30000000;
    struct timespec time = {until / 1000000000, until % 1000000000};
    CHECK_PTHREAD(pthread_mutex_lock(&mutex));
    int error;
    while ((error = pthread_cond_timedwait(&changed, &mutex, &time)) == 0) continue;
    CHECK(error == ETIMEDOUT && now_ns(CLOCK_REALTIME) >= until);
    CHECK(pthread_mutex_trylock(&mutex) == EBUSY);
    CHECK_PTHREAD(pthread_mutex_unlock(&mutex));
    say("the timed wait: %s\n", errno_name(error));

    CHECK_PTHREAD(pthread_barrier_init(&barrier, NULL, 8));
    run(8, phases);
    say("%d phases, one thread of each is special: %d\n", 5, (int)serial);
    run(6, reads_and_writes);
    say("%d writes among reads\n", value);

    sem_t semaphore;
    CHECK(sem_init(&semaphore, 0, 2) == 0 && sem_wait(&semaphore) == 0 && sem_trywait(&semaphore) == 0);
    CHECK_FAILS(sem_trywait(&semaphore), EAGAIN);
    until = now_ns(CLOCK_REALTIME) + 20000000;
    time = (struct timespec){until / 1000000000, until % 1000000000};
    CHECK_FAILS(sem_timedwait(&semaphore, &time), ETIMEDOUT);
    CHECK(sem_post(&semaphore) == 0 && sem_wait(&semaphore) == 0);
    return 0;
}
