// getrandom gives different bytes each time, also to a child and its parent, whole, and refuses unknown flags; so do
// /dev/urandom and AT_RANDOM of each exec.
#include "check.h"
#include <sys/random.h>
#include <sys/sysinfo.h>

int main(void) {
    unsigned char one[256], two[256], bits = 0;
    CHECK(getrandom(one, sizeof one, 0) == sizeof one && getrandom(two, sizeof two, GRND_NONBLOCK) == sizeof two);
    CHECK(memcmp(one, two, sizeof one) != 0);
    for (size_t i = 0; i < sizeof one; i++) bits |= one[i];
    CHECK(bits == 0xff && getrandom(one, 0, 0) == 0);
    CHECK_FAILS(getrandom(one, 1, 0x1000), EINVAL);
    CHECK_FAILS(getrandom(bad_address, 16, 0), EFAULT);

    int ends[2];
    CHECK(pipe(ends) == 0);
    pid_t pid = fork();
    if (pid == 0) {
        CHECK(getrandom(one, 32, 0) == 32 && write(ends[1], one, 32) == 32);
        _exit(0);
    }
    CHECK(getrandom(one, 32, 0) == 32 && read(ends[0], two, 32) == 32 && memcmp(one, two, 32) != 0);
    CHECK(status_of(pid) == 0);
    int fd = open("/dev/urandom", O_RDONLY);
    CHECK(read(fd, one, 64) == 64 && read(fd, two, 64) == 64 && memcmp(one, two, 64) != 0);

    // The other devices that are always there.
    int zero = open("/dev/zero", O_RDWR), null = open("/dev/null", O_RDWR), full = open("/dev/full", O_RDWR);
    CHECK(read(zero, one, 10) == 10 && one[0] == 0 && one[9] == 0 && write(zero, one, 10) == 10);
    CHECK(read(null, one, 10) == 0 && write(null, one, 10) == 10);
    CHECK(read(full, one, 10) == 10);
    CHECK_FAILS(write(full, one, 10), ENOSPC);

    struct sysinfo info;
    CHECK(sysinfo(&info) == 0 && info.totalram > info.freeram && info.procs > 0 && info.mem_unit > 0);
    say("random, and the small devices\n");
    return 0;
}
