// Benchmark: computing without the kernel: a sieve over N bytes, then as many divisions.
// run: 100000 => 0
#include "check.h"

int main(int argc, char **argv) {
    size_t size = argc > 1 ? (size_t)atol(argv[1]) : 20000000, primes = 0;
    unsigned char *composite = calloc(size, 1);
    CHECK(composite);
    for (size_t i = 2; i < size; i++) {
        if (composite[i]) continue;
        primes++;
        for (size_t j = i * i; j < size; j += i) composite[j] = 1;
    }
    volatile uint64_t sum = 0;
    for (size_t i = 1; i < size; i++) sum = sum + size / i;
    say("%zu primes, sum %llu\n", primes, (unsigned long long)sum);
    free(composite);
    return 0;
}
