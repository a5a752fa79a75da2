// Benchmark: make and join a thread, N times.
// run: 50 => 0
#include "thread.h"

static void *nothing(void *argument) { return argument; }

int main(int argc, char **argv) {
    long rounds = argc > 1 ? atol(argv[1]) : 1000;
    for (long i = 0; i < rounds; i++) CHECK_PTHREAD(pthread_join(start_thread(nothing, NULL), NULL));
    return 0;
}
