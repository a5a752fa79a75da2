// Benchmark: two threads take turns by a futex, N times.
// run: 100 => 0
#include "thread.h"

static _Atomic uint32_t turn;
static long rounds;

static void take_turns(uint32_t mine) {
    for (long i = 0; i < rounds; i++) {
        while (turn != mine) futex(&turn, FUTEX_WAIT_PRIVATE, !mine, NULL);
        turn = !mine;
        futex(&turn, FUTEX_WAKE_PRIVATE, 1, NULL);
    }
}

static void *other(void *unused) {
    take_turns(1);
    return unused;
}

int main(int argc, char **argv) {
    rounds = argc > 1 ? atol(argv[1]) : 10000;
    pthread_t thread = start_thread(other, NULL);
    take_turns(0);
    CHECK_PTHREAD(pthread_join(thread, NULL));
    return 0;
}
