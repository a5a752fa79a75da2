// The scheduler's calls: policies and priorities, affinity, nice values, yield.
#include "check.h"
#include <sched.h>

int main(void) {
    CHECK(sched_yield() == 0);
    // Whoever started us may have been nice already.
    errno = 0;
    int nice_before = getpriority(PRIO_PROCESS, 0);
    CHECK(errno == 0 && nice_before >= -20 && nice_before < 15);
    struct sched_param param = {0};
    CHECK(syscall(SYS_sched_getscheduler, 0) == SCHED_OTHER && syscall(SYS_sched_getparam, 0, &param) == 0);
    CHECK(param.sched_priority == 0);
    CHECK(sched_get_priority_max(SCHED_FIFO) == 99 && sched_get_priority_min(SCHED_RR) == 1);
    CHECK(sched_get_priority_max(SCHED_OTHER) == 0);
    CHECK_FAILS(sched_get_priority_max(99), EINVAL);
    CHECK_FAILS(syscall(SYS_sched_getscheduler, -1), EINVAL);
    CHECK_FAILS(syscall(SYS_sched_getscheduler, getpid() + 100000), ESRCH);
    param.sched_priority = 5;
    CHECK_FAILS(syscall(SYS_sched_setscheduler, 0, SCHED_OTHER, &param), EINVAL);
    param.sched_priority = 0;
    CHECK(syscall(SYS_sched_setscheduler, 0, SCHED_BATCH, &param) == 0);
    CHECK(syscall(SYS_sched_getscheduler, 0) == SCHED_BATCH);
    struct timespec slice;
    CHECK(sched_rr_get_interval(0, &slice) == 0);

    cpu_set_t set;
    CPU_ZERO(&set);
    CHECK(sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) >= 1);
    int first = 0;
    while (!CPU_ISSET(first, &set)) first++;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(first, &one);
    CHECK(sched_setaffinity(0, sizeof one, &one) == 0);
    CHECK(sched_getaffinity(0, sizeof set, &set) == 0 && CPU_EQUAL(&set, &one));
    unsigned cpu = 99, node = 99;
    CHECK(syscall(SYS_getcpu, &cpu, &node, NULL) == 0 && (int)cpu == first);
    pid_t pid = fork();
    if (pid == 0) {
        CHECK(sched_getaffinity(0, sizeof set, &set) == 0 && CPU_EQUAL(&set, &one));
        CHECK(syscall(SYS_sched_getscheduler, 0) == SCHED_BATCH && getpriority(PRIO_PROCESS, 0) == nice_before);
        CHECK(nice(2) == nice_before + 2 && getpriority(PRIO_PROCESS, 0) == nice_before + 2);
        CHECK(setpriority(PRIO_PROCESS, 0, 100) == 0 && getpriority(PRIO_PROCESS, 0) == 19);
        _exit(0);
    }
    CHECK(status_of(pid) == 0);
    CHECK(getpriority(PRIO_PROCESS, 0) == nice_before);
    CHECK_FAILS(getpriority(77, 0), EINVAL);
    CPU_ZERO(&one);
    CHECK_FAILS(sched_setaffinity(0, sizeof one, &one), EINVAL);
    say("scheduled\n");
    return 0;
}
