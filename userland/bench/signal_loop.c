// Benchmark: a signal to oneself with a handler, N times.
// run: 100 => 0
#include "check.h"

static volatile sig_atomic_t count;

static void handler(int sig) {
    (void)sig;
    count++;
}

int main(int argc, char **argv) {
    int rounds = argc > 1 ? atoi(argv[1]) : 10000;
    struct sigaction action = {.sa_handler = handler};
    CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
    pid_t me = getpid();
    for (int i = 0; i < rounds; i++) CHECK(kill(me, SIGUSR1) == 0);
    return count != rounds;
}
