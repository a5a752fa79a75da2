// PTRACE_TRACEME and PTRACE_SYSCALL: the tracee stops at the entry and at the exit of each system call, marked by
// TRACESYSGOOD; GET_SYSCALL_INFO tells number, arguments and result; the tracer can replace the call and its result.
// concept: 8 ptrace
// qemu: no (it has no ptrace)
#include "trace.h"

static void tracee(void) {
    CHECK(ptrace(PTRACE_TRACEME, 0, 0, 0) == 0);
    raise(SIGSTOP);
    long pid = syscall(SYS_getpid), replaced = syscall(SYS_getppid), failed = syscall(SYS_close, -1);
    say("tracee: getpid %s, getppid gives %ld, close %ld\n", pid == getpid() ? "is true" : "was changed", replaced,
        failed);
    syscall(SYS_exit_group, 7);
}

static const char *call_name(uint64_t number) {
    switch (number) {
    case SYS_getpid: return "getpid";
    case SYS_getppid: return "getppid";
    case SYS_close: return "close";
    case SYS_exit_group: return "exit_group";
    default: return NULL;
    }
}

int main(void) {
    pid_t pid = fork();
    if (pid == 0) tracee();
    int status = next_stop(pid);
    say("first stop: %s\n", stop_text(status));
    CHECK(ptrace(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL) == 0);
    CHECK_FAILS(ptrace(PTRACE_SETOPTIONS, pid, 0, 1ul << 30), EINVAL);
    bool entered = false;
    const char *name = NULL;
    for (;;) {
        CHECK(ptrace(PTRACE_SYSCALL, pid, 0, 0) == 0);
        status = next_stop(pid);
        if (!WIFSTOPPED(status)) break;
        CHECK(WSTOPSIG(status) == (SIGTRAP | 0x80));
        struct ptrace_syscall_info info;
        long size = ptrace(PTRACE_GET_SYSCALL_INFO, pid, sizeof info, (uintptr_t)&info);
        CHECK(size > 0 && info.instruction_pointer == REG_PC(get_registers(pid)));
        CHECK(info.op == (entered ? PTRACE_SYSCALL_INFO_EXIT : PTRACE_SYSCALL_INFO_ENTRY));
        if (!entered) {
            name = call_name(info.entry.nr);
            if (name) say("enter %s(%d)\n", name, name[0] == 'g' ? 0 : (int)info.entry.args[0]);
        } else if (name) {
            say("leave %s: %s %s\n", name, info.exit.is_error ? "error" : "result",
                info.exit.is_error                              ? errno_name((int)-info.exit.rval)
                : info.exit.rval == pid                         ? "the pid"
                : info.exit.rval == getpid()                    ? "the parent"
                                                                : "?");
            if (strcmp(name, "getppid") == 0) {
                registers regs = get_registers(pid);
                REG_RESULT(regs) = 4711;
                set_registers(pid, regs);
            }
        }
        entered = !entered;
    }
    say("end: %s, in the middle of a call: %d\n", stop_text(status), entered);
    CHECK_FAILS(ptrace(PTRACE_CONT, pid, 0, 0), ESRCH);
    return 0;
}
