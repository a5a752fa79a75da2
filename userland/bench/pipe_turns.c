// Benchmark: one byte to another process and back, N times.
// run: 100 => 0
#include "check.h"

int main(int argc, char **argv) {
    long rounds = argc > 1 ? atol(argv[1]) : 10000;
    int there[2], back[2];
    char byte = 'x';
    CHECK(pipe(there) == 0 && pipe(back) == 0);
    pid_t pid = fork();
    if (pid == 0) {
        for (long i = 0; i < rounds; i++)
            CHECK(read(there[0], &byte, 1) == 1 && write(back[1], &byte, 1) == 1);
        _exit(0);
    }
    for (long i = 0; i < rounds; i++) CHECK(write(there[1], &byte, 1) == 1 && read(back[0], &byte, 1) == 1);
    return status_of(pid) != 0;
}
