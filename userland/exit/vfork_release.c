// The parent of a vfork runs on when the child has executed another program or is gone, whatever way, and not before;
// until then they share the memory.
// concept: 3 do_exit, in order
// qemu: no (its vfork is a fork)
#include "self.h"

static volatile int step;

int main(int argc, char **argv) {
    if (argc > 1) {
        gate_wait((struct gate){atoi(argv[1]), -1});
        return 6;
    }
    pid_t pid = vfork();
    if (pid == 0) {
        sleep_ms(30);
        step = 1;
        _exit(3);
    }
    CHECK(step == 1);
    say("child of vfork %s, its store is seen\n", status_text(status_of(pid)));

    pid = vfork();
    if (pid == 0) {
        sleep_ms(30);
        step = 2;
        kill(getpid(), SIGKILL);
    }
    CHECK(step == 2);
    say("killed: %s\n", status_text(status_of(pid)));

    // After the exec both run: the new program waits for the parent.
    struct gate gate = gate_new();
    char number[12];
    CHECK(fcntl(gate.read_end, F_SETFD, 0) == 0);
    snprintf(number, sizeof number, "%d", gate.read_end);
    const char *self = self_path();
    pid = vfork();
    if (pid == 0) {
        step = 3;
        execl(self, argv[0], number, NULL);
        _exit(9);
    }
    CHECK(step == 3 && waitpid(pid, NULL, WNOHANG) == 0);
    gate_open(gate);
    say("executed: %s\n", status_text(status_of(pid)));

    // An exec that fails releases nobody.
    pid = vfork();
    if (pid == 0) {
        execl("/does/not/exist", "x", NULL);
        step = errno == ENOENT ? 4 : 0;
        _exit(0);
    }
    CHECK(step == 4 && status_of(pid) == 0);

    // CLONE_VFORK without sharing the memory: only the order is the same.
    int ends[2];
    CHECK(pipe(ends) == 0);
    pid = (pid_t)syscall(SYS_clone, 0x4000 | SIGCHLD, 0, 0, 0, 0);
    if (pid == 0) {
        sleep_ms(30);
        step = 5;
        CHECK(write(ends[1], "x", 1) == 1);
        _exit(0);
    }
    CHECK(fcntl(ends[0], F_SETFL, O_NONBLOCK) == 0 && read(ends[0], &(char){0}, 1) == 1 && step == 4);
    CHECK(status_of(pid) == 0);
    say("CLONE_VFORK alone waits too\n");
    return 0;
}
