// Orphans go to the nearest living ancestor that is a subreaper, however far up; the attribute is kept by exec, not
// inherited by fork, but the descendants know of it. A zombie child whose parent dies can be reaped by the new parent.
// concept: 4 exit_notify: the family
// qemu: no (it has no PR_SET_CHILD_SUBREAPER)
#include "check.h"
#include <sys/prctl.h>

static bool is_subreaper(void) {
    int value = -1;
    CHECK(prctl(PR_GET_CHILD_SUBREAPER, &value) == 0);
    return value;
}

int main(void) {
    CHECK(!is_subreaper() && prctl(PR_SET_CHILD_SUBREAPER, 1) == 0 && is_subreaper());
    struct gate orphaned = gate_new(), looked = gate_new();
    int orphans[2];
    CHECK(pipe(orphans) == 0);
    pid_t reaper = getpid();

    // reaper → middle → lower → orphan, and the two between die.
    pid_t middle = fork();
    if (middle == 0) {
        CHECK(!is_subreaper());
        pid_t lower = fork();
        if (lower == 0) {
            pid_t orphan = fork();
            if (orphan == 0) {
                gate_wait(orphaned);
                say("orphan's parent is %s\n", getppid() == reaper ? "the subreaper" : "somebody else");
                gate_open(looked);
                _exit(12);
            }
            CHECK(write(orphans[1], &orphan, sizeof orphan) == sizeof orphan);
            _exit(11);
        }
        status_of(lower);
        _exit(10);
    }
    CHECK(status_of(middle) == 10 << 8);
    pid_t orphan;
    CHECK(read(orphans[0], &orphan, sizeof orphan) == sizeof orphan);
    gate_open(orphaned);
    gate_wait(looked);
    say("reaped the orphan: %s\n", status_text(status_of(orphan)));

    // A zombie is handed on too, and its new parent gets a SIGCHLD for it.
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    CHECK(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
    while (sigtimedwait(&set, NULL, &(struct timespec){0, 0}) > 0) continue;
    middle = fork();
    if (middle == 0) {
        pid_t zombie = fork();
        if (zombie == 0) _exit(13);
        CHECK(waitid(P_PID, zombie, &(siginfo_t){0}, WEXITED | WNOWAIT) == 0);
        CHECK(write(orphans[1], &zombie, sizeof zombie) == sizeof zombie);
        _exit(14);
    }
    CHECK(status_of(middle) == 14 << 8);
    CHECK(read(orphans[0], &orphan, sizeof orphan) == sizeof orphan);
    siginfo_t info;
    CHECK(sigwaitinfo(&set, &info) == SIGCHLD);
    say("reaped the zombie: %s\n", status_text(status_of(orphan)));

    // A subreaper that is gone is passed over: the next one up takes the orphan.
    middle = fork();
    if (middle == 0) {
        CHECK(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0);
        pid_t child = fork();
        if (child == 0) {
            gate_wait(orphaned);
            say("second orphan's parent is %s\n", getppid() == reaper ? "the outer subreaper" : "somebody else");
            _exit(15);
        }
        CHECK(write(orphans[1], &child, sizeof child) == sizeof child);
        _exit(0);
    }
    CHECK(status_of(middle) == 0);
    CHECK(read(orphans[0], &orphan, sizeof orphan) == sizeof orphan);
    gate_open(orphaned);
    CHECK(status_of(orphan) == 15 << 8);
    CHECK(prctl(PR_SET_CHILD_SUBREAPER, 0) == 0 && !is_subreaper());
    return 0;
}
