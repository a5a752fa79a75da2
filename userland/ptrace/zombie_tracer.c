// A traced task that dies is announced to its tracer first, and to its real parent when the tracer has waited for it.
// A tracer that dies detaches; with EXITKILL it takes its tracees along. A tracee that is stopped dies with its group.
// concept: 8 ptrace
// qemu: no (it has no ptrace)
#include "proc.h"
#include "thread.h"
#include "trace.h"

static pid_t start(struct gate go, int code) {
    pid_t pid = fork();
    if (pid == 0) {
        gate_wait(go);
        _exit(code);
    }
    return pid;
}

static void *sleeps(void *unused) {
    for (;;) pause();
    return unused;
}

int main(void) {
    struct gate go = gate_new(), attached = gate_new(), died = gate_new(), reap = gate_new(), reaped = gate_new();
    pid_t pid = start(go, 30), tracer = fork();
    if (tracer == 0) {
        CHECK(ptrace(PTRACE_SEIZE, pid, 0, 0) == 0);
        gate_open(attached);
        CHECK(waitid(P_PID, (id_t)pid, &(siginfo_t){0}, WEXITED | WNOWAIT | __WALL) == 0);
        gate_open(died);
        gate_wait(reap);
        say("tracer: %s\n", status_text(next_stop(pid)));
        CHECK_FAILS(waitpid(pid, NULL, __WALL), ECHILD);
        gate_open(reaped);
        _exit(0);
    }
    gate_wait(attached);
    gate_open(go);
    gate_wait(died);
    CHECK(waitpid(pid, NULL, WNOHANG) == 0);
    say("parent: nothing yet\n");
    gate_open(reap);
    gate_wait(reaped);
    say("parent: %s\n", status_text(status_of(pid)));
    CHECK(status_of(tracer) == 0);

    for (int kill_at_exit = 0; kill_at_exit < 2; kill_at_exit++) {
        pid = start(go, 31);
        tracer = fork();
        if (tracer == 0) {
            CHECK(ptrace(PTRACE_SEIZE, pid, 0, kill_at_exit ? PTRACE_O_EXITKILL : 0) == 0);
            CHECK(ptrace(PTRACE_INTERRUPT, pid, 0, 0) == 0);
            CHECK(WIFSTOPPED(next_stop(pid)));
            _exit(0);
        }
        CHECK(status_of(tracer) == 0);
        if (!kill_at_exit) {
            CHECK(atoi(status_field(pid, "TracerPid")) == 0);
            gate_open(go);
        }
        say("tracer dead%s: %s\n", kill_at_exit ? ", EXITKILL" : "", status_text(status_of(pid)));
    }

    // Threads: each one is a tracee of its own; the stopped ones die when the group does.
    pid = fork();
    if (pid == 0) {
        CHECK(ptrace(PTRACE_TRACEME, 0, 0, 0) == 0);
        raise(SIGSTOP);
        start_thread(sleeps, NULL);
        _exit(9);
    }
    CHECK(WSTOPSIG(next_stop(pid)) == SIGSTOP);
    CHECK(ptrace(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACECLONE | PTRACE_O_EXITKILL) == 0);
    CHECK(ptrace(PTRACE_CONT, pid, 0, 0) == 0);
    int status = next_stop(pid);
    pid_t thread = (pid_t)event_message(pid);
    say("%s\n", stop_text(status));
    status = next_stop(thread);
    say("thread: %s, and left so\n", stop_text(status));
    CHECK(ptrace(PTRACE_CONT, pid, 0, 0) == 0);
    say("thread: %s\n", status_text(next_stop(thread)));
    say("process: %s\n", status_text(next_stop(pid)));
    return 0;
}
