// Resource limits: soft not above hard, inherited by fork, seen by prlimit, and what happens at some of them: open
// files, file size (SIGXFSZ), processor time (SIGXCPU), address space.
// qemu: no (it maps beyond RLIMIT_AS)
#include "scratch.h"

int main(void) {
    scratch();
    struct rlimit limit;
    CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur <= limit.rlim_max);
    struct rlimit wrong = {20, 10};
    CHECK_FAILS(setrlimit(RLIMIT_NOFILE, &wrong), EINVAL);
    CHECK_FAILS(getrlimit((int)99, &limit), EINVAL);
    limit = (struct rlimit){10, 20};
    CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    struct rlimit old, new = {12, 20};
    CHECK(prlimit(0, RLIMIT_NOFILE, &new, &old) == 0 && old.rlim_cur == 10 && old.rlim_max == 20);
    CHECK_FAILS(prlimit(getpid() + 100000, RLIMIT_NOFILE, NULL, &old), ESRCH);
    int fd;
    while ((fd = open("/dev/null", O_RDONLY)) >= 0) CHECK(fd < 12);
    say("open files: %s\n", errno_name(errno));
    for (fd = 3; fd < 12; fd++) close(fd);

    pid_t pid = fork();
    if (pid == 0) {
        CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur == 12);
        limit = (struct rlimit){1000, 1000};
        CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0);
        static char bytes[2000];
        fd = open("file", O_RDWR | O_CREAT, 0600);
        // As much as fits, and then the signal.
        CHECK(write(fd, bytes, sizeof bytes) == 1000);
        signal(SIGXFSZ, SIG_IGN);
        CHECK_FAILS(write(fd, bytes, 1), EFBIG);
        CHECK_FAILS(ftruncate(fd, 1001), EFBIG);
        struct rlimit none = {0, 0};
        setrlimit(RLIMIT_CORE, &none);
        signal(SIGXFSZ, SIG_DFL);
        write(fd, bytes, 1);
        _exit(0);
    }
    say("file size: %s\n", status_text(status_of(pid)));

    pid = fork();
    if (pid == 0) {
        // Room for what is there and one MiB, roughly.
        limit = (struct rlimit){64 << 20, 64 << 20};
        CHECK(setrlimit(RLIMIT_AS, &limit) == 0);
        CHECK_FAILS(mmap(NULL, 64 << 20, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), ENOMEM);
        void *small = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        CHECK(small != MAP_FAILED);
        CHECK(mremap(small, 4096, 64 << 20, MREMAP_MAYMOVE) == MAP_FAILED && errno == ENOMEM);
        _exit(0);
    }
    say("address space: %s\n", status_text(status_of(pid)));

    pid = fork();
    if (pid == 0) {
        struct rlimit none = {0, 0};
        setrlimit(RLIMIT_CORE, &none);
        limit = (struct rlimit){1, 5};
        CHECK(setrlimit(RLIMIT_CPU, &limit) == 0);
        for (volatile int i = 0;; i++) continue;
    }
    say("processor time: %s\n", status_text(status_of(pid)));
    return 0;
}
