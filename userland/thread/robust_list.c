// A thread that dies with robust futexes: each one on its list gets the owner-died bit and one waiter is woken, up to
// 2048 entries, also the one it was about to take; a futex owned by somebody else is left alone.
// concept: 3 do_exit, in order
// qemu: no (it has no set_robust_list)
#include "thread.h"
#include <stddef.h>

struct lock {
    struct robust_list list;
    uint32_t word;
};

static struct lock locks[2100], pending;
static struct robust_list_head head;
static struct gate locked, go;

static void *owner(void *unused) {
    uint32_t me = (uint32_t)gettid();
    for (size_t i = 0; i < COUNT(locks); i++) {
        locks[i].word = me;
        locks[i].list.next = i + 1 < COUNT(locks) ? &locks[i + 1].list : &head.list;
    }
    // The third one is not ours, and the fourth has waiters.
    locks[2].word = me + 1;
    locks[3].word = me | FUTEX_WAITERS;
    pending.word = me;
    head.list.next = &locks[0].list;
    head.futex_offset = offsetof(struct lock, word);
    head.list_op_pending = &pending.list;
    CHECK(syscall(SYS_set_robust_list, &head, sizeof head) == 0);
    gate_open(locked);
    gate_wait(go);
    thread_exit(0);
    return unused;
}

static void *waiter(void *unused) {
    uint32_t value = locks[3].word;
    gate_open(locked);
    CHECK(futex(&locks[3].word, FUTEX_WAIT, value, NULL) == 0 || errno == EAGAIN);
    return unused;
}

int main(void) {
    locked = gate_new();
    go = gate_new();
    CHECK_FAILS(syscall(SYS_set_robust_list, &head, 12), EINVAL);
    start_thread(owner, NULL);
    gate_wait(locked);
    uint32_t me = locks[0].word;
    pthread_t thread = start_thread(waiter, NULL);
    gate_wait(locked);
    sleep_ms(10);
    gate_open(go);
    CHECK_PTHREAD(pthread_join(thread, NULL));
    // The list was walked before its 4th entry's waiter was woken, but perhaps not to its end: wait for the last one.
    while (!(*(volatile uint32_t *)&locks[2047].word & FUTEX_OWNER_DIED)) sleep_ms(1);
    while (!(*(volatile uint32_t *)&pending.word & FUTEX_OWNER_DIED)) sleep_ms(1);

    CHECK(locks[0].word == FUTEX_OWNER_DIED);
    CHECK(locks[2].word == me + 1);
    CHECK(locks[3].word == (FUTEX_OWNER_DIED | FUTEX_WAITERS));
    size_t died = 0;
    for (size_t i = 0; i < COUNT(locks); i++) died += !!(locks[i].word & FUTEX_OWNER_DIED);
    say("owner-died on %zu of %zu locks, and on the pending one\n", died, COUNT(locks));
    CHECK(locks[2048].word == me);
    return 0;
}
