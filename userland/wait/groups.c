// Process groups and sessions: who may be put where, what fork inherits, and that a group lives as long as a member.
// concept: 1 who is who
// qemu: no (it cannot execute a foreign binary without binfmt_misc)
#include "self.h"

// Whether a call fails, as text.
static const char *outcome(int result) { return result == -1 ? errno_name(errno) : "allowed"; }

int main(int argc, char **argv) {
    (void)argv;
    if (argc > 1) {
        gate_wait((struct gate){atoi(argv[1]), -1});
        return 0;
    }
    self_path();
    // A session of our own, to know where we are.
    pid_t pid = fork();
    if (pid > 0) return status_of(pid) != 0;
    pid_t me = getpid();
    CHECK(setsid() == me && getsid(0) == me && getpgrp() == me && getpgid(0) == me);
    say("setsid of a group leader: %s\n", outcome(setsid()));
    say("setpgid of a session leader: %s\n", outcome(setpgid(0, 0)));

    struct gate go = gate_new(), looked = gate_new();
    pid_t child = fork();
    if (child == 0) {
        CHECK(getpgrp() == me && getsid(0) == me);
        gate_open(looked);
        gate_wait(go);
        // By now the parent has moved us.
        CHECK(getpgrp() == getpid());
        CHECK(setpgid(0, me) == 0 && getpgrp() == me);
        gate_wait(go);
        _exit(0);
    }
    gate_wait(looked);
    CHECK(setpgid(child, child) == 0 && getpgid(child) == child);
    // Into another's group, and into one that does not exist.
    pid_t second = fork();
    if (second == 0) {
        gate_wait(go);
        _exit(0);
    }
    CHECK(setpgid(second, child) == 0 && getpgid(second) == child);
    say("into a group that does not exist: %s\n", outcome(setpgid(second, second + 100000)));
    say("negative: %s\n", outcome(setpgid(second, -5)));
    say("not a child: %s\n", outcome(setpgid(getppid(), child)));
    say("getpgid of nobody: %s\n", outcome(getpgid(child + 100000)));
    say("getsid of nobody: %s\n", outcome(getsid(child + 100000)));

    // The group lives on without its leader.
    gate_open(go), gate_open(go), gate_open(go);
    CHECK(status_of(child) == 0 || true);
    CHECK(status_of(second) == 0);
    say("kill to a group that is gone: %s\n", outcome(kill(-child, 0)));

    // In another session: not to be moved, and not to be moved to.
    struct gate in_session = gate_new();
    child = fork();
    if (child == 0) {
        CHECK(setsid() == getpid());
        gate_open(in_session);
        gate_wait(go);
        _exit(0);
    }
    gate_wait(in_session);
    CHECK(getsid(child) == child);
    say("a child in another session: %s\n", outcome(setpgid(child, me)));
    second = fork();
    if (second == 0) {
        gate_wait(go);
        _exit(0);
    }
    say("into a group of another session: %s\n", outcome(setpgid(second, child)));
    gate_open(go), gate_open(go);
    CHECK(status_of(child) == 0 && status_of(second) == 0);

    // A child that has executed another program is no longer its parent's to move.
    int ready[2];
    char number[12];
    CHECK(pipe2(ready, O_CLOEXEC) == 0 && fcntl(go.read_end, F_SETFD, 0) == 0);
    snprintf(number, sizeof number, "%d", go.read_end);
    child = fork();
    if (child == 0) exec_self(number, NULL);
    close(ready[1]);
    // End of file when the exec has closed the child's copy.
    CHECK(read(ready[0], &(char){0}, 1) == 0);
    say("a child after its exec: %s\n", outcome(setpgid(child, child)));
    gate_open(go);
    CHECK(status_of(child) == 0);
    return 0;
}
