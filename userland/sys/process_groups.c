// Process groups and sessions: who may move whom, and when.
// qemu: no (it keeps stop signals to itself)
#include "self.h"

int main(int argc, char **argv) {
    if (argc > 1) {
        gate_open((struct gate){-1, atoi(argv[1])});
        sleep_ms(10000);
        return 0;
    }
    (void)self_path();
    pid_t me = getpid();
    CHECK(setpgid(0, 0) == 0 || getsid(0) == me);
    CHECK(getpgid(0) == me && getpgrp() == me && getpgid(me) == me);
    CHECK_FAILS(getpgid(999999), ESRCH);
    CHECK_FAILS(getsid(999999), ESRCH);
    CHECK_FAILS(setpgid(0, -1), EINVAL);
    CHECK_FAILS(setpgid(999999, 0), ESRCH);
    CHECK_FAILS(setpgid(getppid(), 0), ESRCH);
    CHECK_FAILS(setpgid(0, 999999), EPERM);
    CHECK_FAILS(setsid(), EPERM);

    struct gate gate = gate_new();
    pid_t child = fork();
    if (child == 0) {
        gate_wait(gate);
        CHECK(getpgrp() == getpid());
        CHECK(setpgid(0, getppid()) == 0 && getpgrp() == getppid());
        CHECK(setsid() == getpid() && getsid(0) == getpid() && getpgrp() == getpid());
        CHECK_FAILS(setpgid(0, 0), EPERM);
        CHECK_FAILS(setsid(), EPERM);
        CHECK_FAILS(setpgid(0, getppid()), EPERM);
        pause();
    }
    CHECK(setpgid(child, 0) == 0 && getpgid(child) == child);
    gate_open(gate);
    while (getsid(child) != child) sleep_ms(1);
    CHECK_FAILS(setpgid(child, me), EPERM);
    CHECK(kill(child, SIGKILL) == 0);
    status_of(child);
    say("sessions\n");

    // After exec a child is its own master.
    int ends[2];
    CHECK(pipe(ends) == 0);
    pid_t other = fork();
    if (other == 0) {
        char number[16];
        snprintf(number, sizeof number, "%d", ends[1]);
        exec_self(number, NULL);
    }
    gate_wait((struct gate){ends[0], -1});
    CHECK_FAILS(setpgid(other, 0), EACCES);
    CHECK(kill(other, SIGKILL) == 0);
    status_of(other);

    // The group outlives its leader.
    pid_t leader = fork();
    if (leader == 0) {
        CHECK(setpgid(0, 0) == 0);
        pid_t member = fork();
        if (member == 0) {
            gate_wait(gate);
            CHECK(getpgrp() != getpid());
            gate_open(gate);
            pause();
        }
        _exit(0);
    }
    CHECK(status_of(leader) == 0);
    gate_open(gate);
    sleep_ms(20);
    gate_wait(gate);
    CHECK(kill(-leader, 0) == 0 && kill(-leader, SIGKILL) == 0);
    while (kill(-leader, 0) == 0) sleep_ms(1);
    CHECK(errno == ESRCH);
    say("groups\n");
    return 0;
}
