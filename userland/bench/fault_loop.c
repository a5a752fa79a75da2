// Benchmark: map N pages, touch each, unmap; and as many copies on write after a fork.
// run: 200 => 0
#include "check.h"

int main(int argc, char **argv) {
    size_t pages = argc > 1 ? (size_t)atol(argv[1]) : 10000, size = pages * 4096;
    for (int round = 0; round < 3; round++) {
        char *area = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        CHECK(area != MAP_FAILED);
        for (size_t i = 0; i < pages; i++) area[i * 4096] = 1;
        pid_t pid = fork();
        if (pid == 0) {
            for (size_t i = 0; i < pages; i++) area[i * 4096]++;
            _exit(area[0]);
        }
        CHECK(status_of(pid) == 2 << 8 && area[0] == 1 && munmap(area, size) == 0);
    }
    return 0;
}
