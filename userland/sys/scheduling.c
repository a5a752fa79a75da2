// Scheduling parameters: policies and what they require, nice values, processor masks.
// output: varies
#include "check.h"
#include <sched.h>

struct attr {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime, deadline, period;
    uint32_t util_min, util_max;
};

int main(void) {
    CHECK(sched_get_priority_max(SCHED_FIFO) == 99 && sched_get_priority_min(SCHED_RR) == 1);
    CHECK(sched_get_priority_max(SCHED_OTHER) == 0 && sched_get_priority_max(SCHED_IDLE) == 0);
    CHECK_FAILS(sched_get_priority_max(55), EINVAL);
    CHECK(syscall(SYS_sched_getscheduler, 0) == SCHED_OTHER);
    struct sched_param param = {.sched_priority = 7};
    CHECK(syscall(SYS_sched_getparam, 0, &param) == 0 && param.sched_priority == 0);

    param.sched_priority = 5;
    CHECK_FAILS(syscall(SYS_sched_setscheduler, 0, SCHED_OTHER, &param), EINVAL);
    CHECK_FAILS(syscall(SYS_sched_setscheduler, 0, 55, &param), EINVAL);
    CHECK_FAILS(syscall(SYS_sched_setscheduler, -1, SCHED_OTHER, &param), EINVAL);
    CHECK_FAILS(syscall(SYS_sched_setscheduler, 0, SCHED_OTHER, NULL), EINVAL);
    param.sched_priority = 100;
    CHECK_FAILS(syscall(SYS_sched_setscheduler, 0, SCHED_FIFO, &param), EINVAL);
    CHECK_FAILS(syscall(SYS_sched_getscheduler, 999999), ESRCH);

    param.sched_priority = 0;
    CHECK(syscall(SYS_sched_setscheduler, 0, SCHED_BATCH | SCHED_RESET_ON_FORK, &param) == 0);
    CHECK(syscall(SYS_sched_getscheduler, 0) == (SCHED_BATCH | SCHED_RESET_ON_FORK));
    pid_t pid = fork();
    if (pid == 0) _exit((int)syscall(SYS_sched_getscheduler, 0));
    CHECK(status_of(pid) == SCHED_BATCH << 8);
    pid = fork();
    if (pid == 0) {
        CHECK(syscall(SYS_sched_setscheduler, 0, SCHED_IDLE, &param) == 0);
        _exit((int)syscall(SYS_sched_getscheduler, 0));
    }
    CHECK(status_of(pid) == SCHED_IDLE << 8);

    struct attr attr = {0};
    CHECK(syscall(SYS_sched_getattr, 0, &attr, sizeof attr, 0) == 0);
    CHECK(attr.size == sizeof attr && attr.policy == SCHED_BATCH && attr.flags == 1 && attr.nice == 0);
    attr = (struct attr){.size = 48, .policy = SCHED_OTHER, .nice = 4, .flags = 1};
    CHECK(syscall(SYS_sched_setattr, 0, &attr, 0) == 0);
    CHECK(getpriority(PRIO_PROCESS, 0) == 4);
    attr.size = 4;
    CHECK_FAILS(syscall(SYS_sched_setattr, 0, &attr, 0), E2BIG);
    CHECK(attr.size >= 56);
    CHECK_FAILS(syscall(SYS_sched_getattr, 0, &attr, 47, 0), EINVAL);

    errno = 0;
    CHECK(nice(3) == 7 && getpriority(PRIO_PROCESS, getpid()) == 7 && getpriority(PRIO_PGRP, 0) <= 7);
    CHECK(syscall(SYS_getpriority, PRIO_PROCESS, 0) == 13);
    CHECK(setpriority(PRIO_PROCESS, 0, 99) == 0 && getpriority(PRIO_PROCESS, 0) == 19);
    CHECK_FAILS(setpriority(3, 0, 0), EINVAL);
    CHECK_FAILS(setpriority(PRIO_PROCESS, 999999, 0), ESRCH);
    if (geteuid() == 0 && setpriority(PRIO_PROCESS, 0, 0) == 0) {
        CHECK(getpriority(PRIO_PROCESS, 0) == 0);
        pid = fork();
        if (pid == 0) {
            CHECK(syscall(SYS_setuid, 1000) == 0);
            CHECK_FAILS(setpriority(PRIO_PROCESS, 0, -5), EACCES);
            CHECK_FAILS(setpriority(PRIO_PROCESS, getppid(), 5), EPERM);
            param.sched_priority = 1;
            CHECK_FAILS(syscall(SYS_sched_setscheduler, 0, SCHED_FIFO, &param), EPERM);
            _exit(0);
        }
        CHECK(status_of(pid) == 0);
    }

    unsigned long mask[128] = {0};
    long bytes = syscall(SYS_sched_getaffinity, 0, sizeof mask, mask);
    CHECK(bytes >= 8 && bytes % 8 == 0 && mask[0] != 0);
    CHECK(syscall(SYS_sched_setaffinity, 0, sizeof mask, mask) == 0);
    CHECK_FAILS(syscall(SYS_sched_getaffinity, 0, 7, mask), EINVAL);
    memset(mask, 0, sizeof mask);
    CHECK_FAILS(syscall(SYS_sched_setaffinity, 0, sizeof mask, mask), EINVAL);
    CHECK_FAILS(syscall(SYS_sched_setaffinity, 999999, sizeof mask, mask), ESRCH);

    struct timespec interval = {9, 9};
    CHECK(syscall(SYS_sched_rr_get_interval, 0, &interval) == 0 && interval.tv_sec == 0);
    CHECK(sched_yield() == 0);
    unsigned cpu = 99, node = 99;
    CHECK(syscall(SYS_getcpu, &cpu, &node, NULL) == 0 && cpu < 99 && node < 99);
    return 0;
}
