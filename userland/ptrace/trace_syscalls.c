// A tracer stops a process at entry and exit of its calls, reads which they are, changes and suppresses some, and makes
// it step over one. The legacy SIGTRAP of exec comes too.
// concept: 8
// qemu: no (it does not implement ptrace)
#include "check.h"
#include "self.h"
#include <elf.h>
#include <stddef.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/user.h>

#ifndef PTRACE_SYSEMU
#define PTRACE_SYSEMU 31
#endif

struct info {  // struct ptrace_syscall_info
    uint8_t op, pad[3];
    uint32_t arch;
    uint64_t instruction_pointer, stack_pointer;
    union {
        struct {
            uint64_t nr, args[6];
        } entry;
        struct {
            int64_t rval;
            uint8_t is_error;
        } exit;
    };
    uint64_t more;
};

static struct info info_of(pid_t pid) {
    struct info info;
    long size = ptrace((int)0x420e, pid, (void *)sizeof info, &info);
    CHECK(size >= (long)offsetof(struct info, entry));
    return info;
}

static void set_call(pid_t pid, long nr) {
#ifdef __x86_64__
    CHECK(ptrace(PTRACE_POKEUSER, pid, offsetof(struct user_regs_struct, orig_rax), nr) == 0);
#else
    int number = (int)nr;
    struct iovec iov = {&number, sizeof number};
    CHECK(ptrace(PTRACE_SETREGSET, pid, NT_ARM_SYSTEM_CALL, &iov) == 0);
#endif
}

static void set_result(pid_t pid, long value) {
    struct user_regs_struct regs;
    struct iovec iov = {&regs, sizeof regs};
    CHECK(ptrace(PTRACE_GETREGSET, pid, NT_PRSTATUS, &iov) == 0 && iov.iov_len == sizeof regs);
#ifdef __x86_64__
    regs.rax = (unsigned long)value;
#else
    regs.regs[0] = (unsigned long)value;
#endif
    CHECK(ptrace(PTRACE_SETREGSET, pid, NT_PRSTATUS, &iov) == 0);
}

static int next_stop(pid_t pid, int request, int sig) {
    int status;
    CHECK(ptrace(request, pid, NULL, (long)sig) == 0);
    CHECK(waitpid(pid, &status, 0) == pid);
    if (!WIFSTOPPED(status)) {
        say("%s\n", status_text(status));
        return 0;
    }
    return status >> 8;
}

// Run to the entry of call `nr`, past whatever the C library does by the way.
static struct info run_to(pid_t pid, long nr) {
    for (;;) {
        CHECK(next_stop(pid, PTRACE_SYSCALL, 0) == (SIGTRAP | 0x80));
        struct info info = info_of(pid);
        if (info.op == 1 && info.entry.nr == (uint64_t)nr) return info;
    }
}

static struct info run_to_exit(pid_t pid) {
    CHECK(next_stop(pid, PTRACE_SYSCALL, 0) == (SIGTRAP | 0x80));
    struct info info = info_of(pid);
    CHECK(info.op == 2);
    say("  exit: %s %ld\n", info.exit.is_error ? errno_name((int)-info.exit.rval) : "result",
        info.exit.is_error ? -1 : (long)info.exit.rval);
    return info;
}

static void tracee(void) {
    CHECK(ptrace(PTRACE_TRACEME, 0, NULL, NULL) == 0);
    CHECK_FAILS(ptrace(PTRACE_TRACEME, 0, NULL, NULL), EPERM);
    raise(SIGSTOP);
    long results[5];
    results[0] = syscall(SYS_kill, 11, 0x7fffffff);  // the tracer sees these arguments, and EINVAL
    results[1] = syscall(SYS_kill, 12, 0);           // suppressed with result 77
    results[2] = syscall(SYS_kill, 13, 0);           // becomes getppid
    results[3] = syscall(SYS_kill, 14, 0);           // emulated: 78
    results[4] = syscall(SYS_getpgid, -1);           // stepped over: ESRCH
    say("tracee: %ld %ld %s %ld %ld %s\n", results[0], results[1], results[2] == getppid() ? "parent" : "?", results[3],
        results[4], errno_name(errno));
    exec_self("again", NULL);
}

int main(int argc, char **argv) {
    if (argc > 1) {
        say("%s\n", argv[1]);
        return 9;
    }
    self_path();
    pid_t pid = fork();
    if (!pid) tracee();

    int status;
    CHECK(waitpid(pid, &status, 0) == pid && WSTOPSIG(status) == SIGSTOP);
    struct info info = info_of(pid);
    say("signal stop: op %d, arch %s\n", info.op, info.arch == 0xC000003E || info.arch == 0xC00000B7 ? "known" : "?");
    CHECK_FAILS(ptrace(PTRACE_SETOPTIONS, pid, NULL, 1L << 30), EINVAL);
    CHECK_FAILS(ptrace(PTRACE_SYSCALL, pid, NULL, 65L), EIO);
    CHECK(ptrace(PTRACE_SETOPTIONS, pid, NULL, (long)PTRACE_O_TRACESYSGOOD) == 0);

    info = run_to(pid, SYS_kill);
    say("kill(%ld, %#lx)\n", (long)info.entry.args[0], (long)info.entry.args[1]);
    siginfo_t siginfo;
    CHECK(ptrace(PTRACE_GETSIGINFO, pid, NULL, &siginfo) == 0);
    say("  siginfo %d code %#x pid %s\n", siginfo.si_signo, siginfo.si_code, siginfo.si_pid == pid ? "own" : "?");
    run_to_exit(pid);

    info = run_to(pid, SYS_kill);
    say("kill(%ld): suppressed\n", (long)info.entry.args[0]);
    set_call(pid, -1);
    set_result(pid, 77);
    run_to_exit(pid);

    info = run_to(pid, SYS_kill);
    say("kill(%ld): changed\n", (long)info.entry.args[0]);
    set_call(pid, SYS_getppid);
    CHECK(next_stop(pid, PTRACE_SYSCALL, 0) == (SIGTRAP | 0x80) && info_of(pid).exit.rval == getpid());

    CHECK(next_stop(pid, PTRACE_SYSEMU, 0) == (SIGTRAP | 0x80));
    info = info_of(pid);
    say("kill(%ld): emulated\n", (long)info.entry.args[0]);
    set_result(pid, 78);

    info = run_to(pid, SYS_getpgid);
    int stop = next_stop(pid, PTRACE_SINGLESTEP, 0);
    CHECK(ptrace(PTRACE_GETSIGINFO, pid, NULL, &siginfo) == 0);
    say("step over getpgid: %s, same address: %d\n", signal_name(stop),
        info_of(pid).instruction_pointer == info.instruction_pointer);
    // And over the next instruction.
    stop = next_stop(pid, PTRACE_SINGLESTEP, 0);
    CHECK(ptrace(PTRACE_GETSIGINFO, pid, NULL, &siginfo) == 0);
    say("step: %s code %d, same address: %d\n", signal_name(stop), siginfo.si_code,
        info_of(pid).instruction_pointer == info.instruction_pointer);

    stop = next_stop(pid, PTRACE_CONT, 0);
    CHECK(ptrace(PTRACE_GETSIGINFO, pid, NULL, &siginfo) == 0);
    say("exec: %s code %d from %s\n", signal_name(stop), siginfo.si_code, siginfo.si_pid == pid ? "itself" : "?");
    CHECK(next_stop(pid, PTRACE_CONT, 0) == 0);
    CHECK_FAILS(ptrace(PTRACE_CONT, pid, NULL, NULL), ESRCH);
}
