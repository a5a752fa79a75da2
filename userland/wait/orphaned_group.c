// When a parent's death leaves a process group orphaned in which somebody is stopped, all its members get SIGHUP and
// then SIGCONT. In an orphaned group SIGTSTP, SIGTTIN and SIGTTOU do nothing; SIGSTOP stops all the same.
// concept: 4 exit_notify: the family
// qemu: no (it keeps stop signals to itself)
#include "proc.h"
#include <sys/prctl.h>

static struct gate ready, told;

static void handler(int sig) {
    char line[32];
    int length = snprintf(line, sizeof line, "member got %s\n", signal_name(sig));
    CHECK(write(1, line, (size_t)length) == length);
    if (sig == SIGCONT) gate_open(told);
}

int main(void) {
    ready = gate_new();
    told = gate_new();
    CHECK(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0);
    int pids[2];
    CHECK(pipe(pids) == 0);

    // leader (a session of its own) → member (a group of its own, stopped). The leader dies.
    pid_t leader = fork();
    if (leader == 0) {
        CHECK(setsid() == getpid());
        pid_t member = fork();
        if (member == 0) {
            CHECK(setpgid(0, 0) == 0);
            // Each handler keeps the other one out, so that they run one after the other.
            struct sigaction action = {.sa_handler = handler};
            sigfillset(&action.sa_mask);
            CHECK(sigaction(SIGHUP, &action, NULL) == 0 && sigaction(SIGCONT, &action, NULL) == 0);
            gate_open(ready);
            for (;;) pause();
        }
        gate_wait(ready);
        CHECK(write(pids[1], &member, sizeof member) == sizeof member);
        CHECK(kill(member, SIGSTOP) == 0 && waitpid(member, NULL, WUNTRACED) == member);
        _exit(0);
    }
    pid_t member;
    CHECK(read(pids[0], &member, sizeof member) == sizeof member);
    CHECK(status_of(leader) == 0);
    gate_wait(told);
    // It runs again: its group has no member any more whose parent is in another group of the session.
    wait_for_state(member, member, "S");
    CHECK(kill(member, SIGTSTP) == 0 && kill(member, SIGTTIN) == 0 && kill(member, SIGTTOU) == 0);
    CHECK(waitpid(member, NULL, WNOHANG | WUNTRACED) == 0);
    sleep_ms(20);
    CHECK(waitpid(member, NULL, WNOHANG | WUNTRACED) == 0);
    say("SIGTSTP, SIGTTIN and SIGTTOU do nothing in the orphaned group\n");
    int status;
    CHECK(kill(member, SIGSTOP) == 0 && waitpid(member, &status, WUNTRACED) == member);
    say("SIGSTOP: %s\n", status_text(status));
    CHECK(kill(member, SIGKILL) == 0 && status_of(member) == SIGKILL);

    // Nobody is stopped: nobody is told.
    leader = fork();
    if (leader == 0) {
        CHECK(setsid() == getpid());
        member = fork();
        if (member == 0) {
            CHECK(setpgid(0, 0) == 0);
            signal(SIGHUP, handler);
            gate_open(ready);
            gate_wait(told);
            _exit(8);
        }
        gate_wait(ready);
        CHECK(write(pids[1], &member, sizeof member) == sizeof member);
        _exit(0);
    }
    CHECK(read(pids[0], &member, sizeof member) == sizeof member);
    CHECK(status_of(leader) == 0);
    gate_open(told);
    say("nobody stopped: %s\n", status_text(status_of(member)));
    return 0;
}
