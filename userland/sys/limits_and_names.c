// Resource limits, resource usage, the name of the system, and random bytes.
#include "check.h"
#include <sys/random.h>
#include <sys/sysinfo.h>
#include <sys/times.h>
#include <sys/utsname.h>
#include <sys/personality.h>

int main(void) {
    struct utsname name;
    CHECK(uname(&name) == 0 && strcmp(name.sysname, "Linux") == 0);
#if defined __x86_64__
    CHECK(strcmp(name.machine, "x86_64") == 0);
#else
    CHECK(strcmp(name.machine, "aarch64") == 0);
#endif
    CHECK(name.release[0] >= '5' && name.nodename[0]);
    CHECK_FAILS(syscall(SYS_uname, bad_address), EFAULT);

    struct rlimit limit, old;
    CHECK(getrlimit(RLIMIT_NOFILE, &old) == 0 && old.rlim_cur <= old.rlim_max);
    limit = (struct rlimit){20, old.rlim_max};
    CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    CHECK_FAILS(dup2(0, 20), EBADF);
    CHECK_FAILS(fcntl(0, F_DUPFD, 20), EINVAL);
    int fd, last = -1;
    while ((fd = dup(0)) >= 0) last = fd;
    CHECK(errno == EMFILE && last == 19);
    for (fd = 3; fd < 20; fd++) close(fd);
    limit = (struct rlimit){21, 20};
    CHECK_FAILS(setrlimit(RLIMIT_NOFILE, &limit), EINVAL);
    CHECK_FAILS(getrlimit(16, &limit), EINVAL);
    pid_t pid = fork();
    if (pid == 0) {
        CHECK(prlimit(0, RLIMIT_NOFILE, NULL, &limit) == 0 && limit.rlim_cur == 20);
        limit = (struct rlimit){30, 40};
        CHECK(prlimit(getpid(), RLIMIT_NOFILE, &limit, &old) == 0 && old.rlim_cur == 20);
        if (geteuid() == 0) CHECK(syscall(SYS_setuid, 1000) == 0);
        limit.rlim_max = 41;
        CHECK_FAILS(setrlimit(RLIMIT_NOFILE, &limit), EPERM);
        _exit(0);
    }
    CHECK(status_of(pid) == 0);
    CHECK_FAILS(prlimit(999999, RLIMIT_NOFILE, NULL, &limit), ESRCH);

    // A file that may not grow further: SIGXFSZ, and EFBIG where that is ignored.
    limit = (struct rlimit){100, RLIM_INFINITY};
    pid = fork();
    if (pid == 0) {
        struct rlimit core = {0, 0};
        CHECK(setrlimit(RLIMIT_CORE, &core) == 0 && setrlimit(RLIMIT_FSIZE, &limit) == 0);
        FILE *file = tmpfile();
        CHECK(file);
        char block[150] = {0};
        CHECK(write(fileno(file), block, sizeof block) == 100);
        signal(SIGXFSZ, SIG_IGN);
        CHECK_FAILS(write(fileno(file), block, sizeof block), EFBIG);
        signal(SIGXFSZ, SIG_DFL);
        (void)!write(fileno(file), block, sizeof block);
        _exit(0);
    }
    say("%s\n", status_text(status_of(pid)));

    struct rusage usage;
    CHECK(getrusage(RUSAGE_SELF, &usage) == 0 && usage.ru_maxrss > 0 && usage.ru_minflt > 0);
    CHECK(getrusage(RUSAGE_THREAD, &usage) == 0);
    CHECK_FAILS(getrusage(5, &usage), EINVAL);
    struct sysinfo info;
    CHECK(sysinfo(&info) == 0 && info.totalram > 0 && info.freeram < info.totalram && info.procs > 0);
    CHECK(info.mem_unit >= 1 && info.uptime > 0);
    struct tms tms;
    CHECK(times(&tms) != -1 && times(NULL) != -1);

    int before = personality(0xffffffff);
    CHECK(before >= 0 && personality((unsigned long)before | ADDR_NO_RANDOMIZE) == before);
    CHECK(personality(0xffffffff) == (before | ADDR_NO_RANDOMIZE));

    unsigned char one[64] = {0}, two[64] = {0};
    CHECK(getrandom(one, sizeof one, 0) == sizeof one && getrandom(two, sizeof two, GRND_NONBLOCK) == sizeof two);
    CHECK(memcmp(one, two, sizeof one) != 0);
    CHECK_FAILS(getrandom(one, 1, 0x100), EINVAL);
    CHECK_FAILS(getrandom(one, 1, GRND_RANDOM | 4), EINVAL);
    CHECK_FAILS(getrandom(bad_address, 16, 0), EFAULT);
    CHECK(getrandom(bad_address, 0, 0) == 0);
    CHECK_FAILS(syscall(SYS_reboot, 0, 0, 0, 0) , geteuid() == 0 ? errno : EPERM);
    return 0;
}
