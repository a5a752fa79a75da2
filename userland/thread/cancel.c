// pthread_cancel: at a cancellation point, also one that blocks already; not while disabled; clean-up handlers and
// thread-specific destructors run; asynchronously also in a loop without calls.
// concept: 6 signals
#include "thread.h"

static struct gate ready, never;
static atomic_int destroyed, cleaned;
static pthread_key_t key;

static void clean(void *text) {
    say(" cleanup(%s)", (char *)text);
    cleaned++;
}
static void destroy(void *value) {
    destroyed++;
    (void)value;
}

static void *blocks(void *unused) {
    pthread_setspecific(key, &key);
    pthread_cleanup_push(clean, "outer");
    pthread_cleanup_push(clean, "inner");
    gate_open(ready);
    char byte;
    read(never.read_end, &byte, 1);
    pthread_cleanup_pop(0);
    pthread_cleanup_pop(0);
    return unused;
}

static void *disabled(void *unused) {
    int old;
    CHECK_PTHREAD(pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old));
    gate_open(ready);
    sleep_ms(30);
    say(" still here,");
    CHECK_PTHREAD(pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &old));
    pthread_testcancel();
    return unused;
}

static void *spins(void *unused) {
    int old;
    CHECK_PTHREAD(pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &old));
    gate_open(ready);
    for (volatile long i = 0;; i++) continue;
    return unused;
}

static void *waits_for_condition(void *unused) {
    static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
    CHECK_PTHREAD(pthread_mutex_lock(&mutex));
    pthread_cleanup_push((void (*)(void *))(uintptr_t)pthread_mutex_unlock, &mutex);
    gate_open(ready);
    for (;;) pthread_cond_wait(&condition, &mutex);
    pthread_cleanup_pop(1);
    return unused;
}

int main(void) {
    ready = gate_new();
    never = gate_new();
    CHECK_PTHREAD(pthread_key_create(&key, destroy));
    static const struct {
        const char *name;
        void *(*body)(void *);
    } tries[] = {{"blocked in read", blocks}, {"disabled", disabled}, {"asynchronous", spins},
                 {"condition", waits_for_condition}};
    for (size_t i = 0; i < COUNT(tries); i++) {
        say("%s:", tries[i].name);
        pthread_t thread = start_thread(tries[i].body, NULL);
        gate_wait(ready);
        sleep_ms(5);
        CHECK_PTHREAD(pthread_cancel(thread));
        void *result;
        CHECK_PTHREAD(pthread_join(thread, &result));
        say(" %s\n", result == PTHREAD_CANCELED ? "cancelled" : "not cancelled");
    }
    CHECK(cleaned == 2 && destroyed == 1);
    return 0;
}
