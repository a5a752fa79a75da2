// Benchmark: open, write, read back, stat and remove a small file, N times.
// run: 50 => 0
#include "scratch.h"

int main(int argc, char **argv) {
    long rounds = argc > 1 ? atol(argv[1]) : 1000;
    scratch();
    static char page[4096], back[4096];
    for (long i = 0; i < rounds; i++) {
        int fd = open("file", O_RDWR | O_CREAT, 0600);
        struct stat st;
        CHECK(fd >= 0 && write(fd, page, sizeof page) == sizeof page && pread(fd, back, sizeof back, 0) == sizeof back);
        CHECK(fstat(fd, &st) == 0 && st.st_size == sizeof page && close(fd) == 0 && unlink("file") == 0);
    }
    return 0;
}
