// ATTACH stops a process that knew nothing; SEIZE does not, INTERRUPT then does; in a group stop LISTEN lets it stay
// stopped and tells when SIGCONT comes; DETACH lets it go on, with a signal if wished.
// concept: 8 ptrace
// qemu: no (it has no ptrace)
#include "proc.h"
#include "trace.h"

static void say_count(int sig) { _exit(sig == SIGUSR1 ? 21 : 22); }

static pid_t start(void) {
    struct gate ready = gate_new();
    pid_t pid = fork();
    if (pid == 0) {
        CHECK(setpgid(0, 0) == 0);
        signal(SIGUSR1, say_count);
        gate_open(ready);
        for (;;) pause();
    }
    gate_wait(ready);
    close(ready.read_end), close(ready.write_end);
    return pid;
}

int main(void) {
    pid_t pid = start();
    CHECK(ptrace(PTRACE_ATTACH, pid, 0, 0) == 0);
    say("ATTACH: %s\n", stop_text(next_stop(pid)));
    CHECK_FAILS(ptrace(PTRACE_ATTACH, pid, 0, 0), EPERM);
    CHECK(atoi(status_field(pid, "TracerPid")) == getpid() && task_state(pid, pid) == 't');
    CHECK_FAILS(ptrace(PTRACE_LISTEN, pid, 0, 0), EIO);
    CHECK(ptrace(PTRACE_DETACH, pid, 0, SIGUSR1) == 0);
    say("DETACH with SIGUSR1: %s\n", status_text(status_of(pid)));

    pid = start();
    CHECK(ptrace(PTRACE_SEIZE, pid, 0, PTRACE_O_TRACEEXIT) == 0);
    CHECK(waitpid(pid, NULL, WNOHANG | __WALL) == 0);
    CHECK_FAILS(ptrace(PTRACE_CONT, pid, 0, 0), ESRCH);
    CHECK(ptrace(PTRACE_INTERRUPT, pid, 0, 0) == 0);
    say("SEIZE, INTERRUPT: %s\n", stop_text(next_stop(pid)));
    CHECK(ptrace(PTRACE_CONT, pid, 0, 0) == 0);

    // A stop signal: first the signal's own stop, then the group stop.
    CHECK(kill(pid, SIGTSTP) == 0);
    int status = next_stop(pid);
    say("SIGTSTP: %s", stop_text(status));
    CHECK(ptrace(PTRACE_CONT, pid, 0, SIGTSTP) == 0);
    status = next_stop(pid);
    say(", then %s\n", stop_text(status));
    CHECK(ptrace(PTRACE_LISTEN, pid, 0, 0) == 0);
    CHECK(waitpid(pid, &status, WNOHANG | __WALL) == 0);
    CHECK(kill(pid, SIGCONT) == 0);
    status = next_stop(pid);
    say("LISTEN, SIGCONT: %s", stop_text(status));
    CHECK(ptrace(PTRACE_CONT, pid, 0, 0) == 0);
    status = next_stop(pid);
    say(", then %s\n", stop_text(status));
    CHECK(ptrace(PTRACE_CONT, pid, 0, (uintptr_t)WSTOPSIG(status)) == 0);

    CHECK(kill(pid, SIGUSR1) == 0);
    status = next_stop(pid);
    CHECK(ptrace(PTRACE_CONT, pid, 0, SIGUSR1) == 0);
    status = next_stop(pid);
    say("%s: %s to come\n", stop_text(status), status_text((int)event_message(pid)));
    CHECK(ptrace(PTRACE_CONT, pid, 0, 0) == 0);
    say("end: %s\n", status_text(next_stop(pid)));

    CHECK_FAILS(ptrace(PTRACE_ATTACH, getpid(), 0, 0), EPERM);
    CHECK_FAILS(ptrace(PTRACE_ATTACH, getpid() + 100000, 0, 0), ESRCH);
    CHECK_FAILS(ptrace(PTRACE_CONT, getppid(), 0, 0), ESRCH);
    return 0;
}
