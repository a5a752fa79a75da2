// Death under a tracer: a zombie is seen by its tracer first and by its parent afterwards; a tracer that dies lets go of
// its tracees, or takes them along (EXITKILL); threads report their own end.
// concept: 8
// qemu: no (it does not implement ptrace)
#include "check.h"
#include <poll.h>
#include <sys/ptrace.h>

static int quiet(int fd) {
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
    return poll(&poll_fd, 1, 50) == 0;
}

// The parent of the tracee is not its tracer: that is its sibling.
static void zombie(void) {
    struct gate attached = gate_new(), die = gate_new(), reap = gate_new(), reaped = gate_new();
    pid_t tracee = fork();
    if (!tracee) {
        gate_wait(die);
        _exit(6);
    }
    pid_t tracer = fork();
    if (!tracer) {
        CHECK(ptrace(PTRACE_SEIZE, tracee, NULL, NULL) == 0);
        gate_open(attached);
        gate_wait(reap);
        int status;
        CHECK(waitpid(tracee, &status, __WALL) == tracee);
        say("tracer: %s\n", status_text(status));
        gate_open(reaped);
        _exit(0);
    }
    gate_wait(attached);
    gate_open(die);
    siginfo_t info = {0};
    sleep_ms(50);  // it is dead now, but not for us
    CHECK(waitid(P_PID, (id_t)tracee, &info, WEXITED | WNOHANG) == 0 && !info.si_pid);
    say("parent: nothing yet\n");
    gate_open(reap);
    gate_wait(reaped);
    say("parent: %s\n", status_text(status_of(tracee)));
    CHECK(status_of(tracer) == 0);
}

static void tracer_dies(long options) {
    struct gate attached = gate_new(), alive = gate_new();
    pid_t tracee = fork();
    if (!tracee) {
        for (;;) {
            gate_open(alive);
            sleep_ms(20);
        }
    }
    gate_wait(alive);
    pid_t tracer = fork();
    if (!tracer) {
        CHECK(ptrace(PTRACE_SEIZE, tracee, NULL, options) == 0);
        CHECK(ptrace(PTRACE_INTERRUPT, tracee, NULL, NULL) == 0);
        CHECK(waitpid(tracee, NULL, __WALL) == tracee);
        gate_open(attached);
        pause();
    }
    gate_wait(attached);
    while (!quiet(alive.read_end)) gate_wait(alive);
    CHECK(kill(tracer, SIGKILL) == 0);
    CHECK(WTERMSIG(status_of(tracer)) == SIGKILL);
    if (!options) {
        gate_wait(alive);
        say("the tracee goes on\n");
        CHECK(kill(tracee, SIGKILL) == 0);
    }
    say("tracee %s\n", status_text(status_of(tracee)));
}

static void *leave(void *unused) {
    (void)unused;
    syscall(SYS_exit, 21);
    return NULL;
}

// Each thread that is traced is waited for, the leader last, also when it ends first.
static void threads(void) {
    pid_t leader = fork();
    if (!leader) {
        CHECK(ptrace(PTRACE_TRACEME, 0, NULL, NULL) == 0);
        raise(SIGSTOP);
        pthread_t thread;
        CHECK_PTHREAD(pthread_create(&thread, NULL, leave, NULL));
        syscall(SYS_exit, 20);
    }
    int status;
    CHECK(waitpid(leader, &status, 0) == leader);
    CHECK(ptrace(PTRACE_SETOPTIONS, leader, NULL, (long)PTRACE_O_TRACECLONE) == 0);
    CHECK(ptrace(PTRACE_CONT, leader, NULL, NULL) == 0);
    CHECK(waitpid(leader, &status, 0) == leader && status >> 16 == PTRACE_EVENT_CLONE);
    unsigned long thread;
    CHECK(ptrace(PTRACE_GETEVENTMSG, leader, NULL, &thread) == 0);
    CHECK(waitpid((pid_t)thread, &status, __WALL) == (pid_t)thread);
    CHECK(ptrace(PTRACE_CONT, leader, NULL, NULL) == 0);
    sleep_ms(50);
    CHECK(waitpid(leader, &status, WNOHANG) == 0);
    say("the leader is dead, but cannot be waited for\n");
    CHECK(ptrace(PTRACE_CONT, (pid_t)thread, NULL, NULL) == 0);
    CHECK(waitpid((pid_t)thread, &status, __WALL) == (pid_t)thread);
    say("thread %s\n", status_text(status));
    CHECK(waitpid(leader, &status, 0) == leader);
    say("leader %s\n", status_text(status));
}

int main(void) {
    zombie();
    tracer_dies(0);
    tracer_dies(PTRACE_O_EXITKILL);
    threads();
}
