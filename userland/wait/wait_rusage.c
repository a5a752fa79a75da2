// The resources of a child come with its status, and are added to those of the children at that moment, not before;
// grandchildren count when the child waited for them. A parent that ignores SIGCHLD never sees them.
// concept: 5 wait4, waitid, waitpid
#include "check.h"
#include <sys/times.h>

static int64_t microseconds(const struct rusage *usage) {
    return (usage->ru_utime.tv_sec + usage->ru_stime.tv_sec) * 1000000LL + usage->ru_utime.tv_usec +
           usage->ru_stime.tv_usec;
}

static int64_t of_children(void) {
    struct rusage usage;
    CHECK(getrusage(RUSAGE_CHILDREN, &usage) == 0);
    return microseconds(&usage);
}

// Use this much processor time.
static void burn(int64_t ms) {
    int64_t until = now_ns(CLOCK_PROCESS_CPUTIME_ID) + ms * 1000000;
    while (now_ns(CLOCK_PROCESS_CPUTIME_ID) < until)
        for (volatile int i = 0; i < 10000; i++) continue;
}

int main(void) {
    CHECK(of_children() == 0);
    struct gate done = gate_new();
    pid_t pid = fork();
    if (pid == 0) {
        // A grandchild that is waited for, and one whose resources are lost.
        struct rusage first;
        for (int i = 0; i < 2; i++) {
            if (i == 1) signal(SIGCHLD, SIG_IGN);
            pid_t grandchild = fork();
            if (grandchild == 0) {
                burn(60);
                memset(mmap(NULL, 8 << 20, PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), 1, 8 << 20);
                _exit(0);
            }
            while (wait4(grandchild, NULL, 0, i == 0 ? &first : NULL) == -1 && errno == EINTR) continue;
        }
        int64_t inherited = of_children();
        CHECK(inherited >= 55000 && llabs(inherited - microseconds(&first)) < 10000);
        burn(60);
        gate_open(done);
        _exit(0);
    }
    gate_wait(done);
    CHECK(waitid(P_PID, pid, &(siginfo_t){0}, WEXITED | WNOWAIT) == 0);
    CHECK(of_children() == 0);
    say("nothing before the child is reaped\n");
    struct rusage usage;
    CHECK(wait4(pid, NULL, 0, &usage) == pid);
    // The largest resident set of child and grandchild, in KiB.
    CHECK(usage.ru_maxrss >= 7 << 10);
    CHECK(microseconds(&usage) >= 110000 && of_children() >= 110000);
    struct tms tms;
    CHECK(times(&tms) != (clock_t)-1 && tms.tms_cutime + tms.tms_cstime >= 10);
    say("child and grandchild when it is\n");
    return 0;
}
