// A filter asks the tracer, which sees the call and the data of the filter and lets it go on; without a tracer it is ENOSYS.
// qemu: no (it has no ptrace)
#include "check.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>

static int child(void) {
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getsid, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRACE | 1234),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {COUNT(filter), filter};
    CHECK(ptrace(PTRACE_TRACEME, 0, 0, 0) == 0 && raise(SIGSTOP) == 0);
    CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    CHECK(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) == 0);
    CHECK(syscall(SYS_getsid, 0) == getsid(0));
    return 0;
}

int main(void) {
    // Without a tracer the call does not exist.
    pid_t pid = fork();
    if (pid == 0) {
        struct sock_filter filter[] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
                                       BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getsid, 0, 1),
                                       BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRACE),
                                       BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
        struct sock_fprog program = {COUNT(filter), filter};
        CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
        CHECK(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) == 0);
        CHECK_FAILS(syscall(SYS_getsid, 0), ENOSYS);
        _exit(0);
    }
    CHECK(status_of(pid) == 0);

    pid = fork();
    if (pid == 0) _exit(child());
    int status;
    CHECK(waitpid(pid, &status, 0) == pid && WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
    CHECK(ptrace(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACESECCOMP) == 0);
    int events = 0;
    for (;;) {
        CHECK(ptrace(PTRACE_CONT, pid, 0, 0) == 0 && waitpid(pid, &status, 0) == pid);
        if (!WIFSTOPPED(status)) break;
        unsigned long message = 0;
        CHECK(status >> 8 == (SIGTRAP | PTRACE_EVENT_SECCOMP << 8));
        CHECK(ptrace(PTRACE_GETEVENTMSG, pid, 0, &message) == 0 && message == 1234);
        events++;
    }
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    say("asked %d times\n", events);
    return 0;
}
