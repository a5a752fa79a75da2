// pthread_exit in main ends the leader only: the process lives on, with status 0 when its last thread returns; a
// return from main ends them all. Detached threads are nobody's to join; thread-local storage is each thread's own.
// concept: 2 two ways out
#include "thread.h"

static _Thread_local int local = 5;
static _Thread_local char zeros[1000];
static pthread_key_t key;
static atomic_int destroyed;
static struct gate go;

static void destroy(void *value) {
    CHECK(value == &local);
    destroyed++;
}

static void *says(void *unused) {
    gate_wait(go);
    say("the other thread goes on\n");
    return unused;
}

static void *sleeps(void *unused) {
    for (;;) pause();
    return unused;
}

static void *uses_its_own(void *number) {
    CHECK(local == 5 && zeros[0] == 0 && zeros[999] == 0);
    local = (int)(intptr_t)number;
    zeros[999] = 1;
    CHECK_PTHREAD(pthread_setspecific(key, &local));
    sched_yield();
    CHECK(local == (int)(intptr_t)number && pthread_getspecific(key) == &local);
    return number;
}

int main(void) {
    go = gate_new();
    pid_t pid = fork();
    if (pid == 0) {
        start_thread(says, NULL);
        gate_open(go);
        pthread_exit((void *)7);
    }
    say("pthread_exit in main: %s\n", status_text(status_of(pid)));

    pid = fork();
    if (pid == 0) {
        for (int i = 0; i < 3; i++) CHECK_PTHREAD(pthread_detach(start_thread(sleeps, NULL)));
        return 8;
    }
    say("return from main: %s\n", status_text(status_of(pid)));

    CHECK_PTHREAD(pthread_key_create(&key, destroy));
    pthread_t threads[8];
    for (intptr_t i = 0; i < 8; i++) threads[i] = start_thread(uses_its_own, (void *)i);
    for (intptr_t i = 0; i < 8; i++) {
        void *result;
        CHECK_PTHREAD(pthread_join(threads[i], &result));
        CHECK(result == (void *)i);
    }
    CHECK(local == 5 && destroyed == 8);
    say("storage of their own, %d destructors\n", (int)destroyed);
    return 0;
}
