// SINGLESTEP runs one instruction at a time; a breakpoint written into the code stops there, and the tracer steps over
// it and goes on.
// concept: 8 ptrace
// qemu: no (it has no ptrace)
#include "trace.h"

// Ten instructions between two symbols; the loop makes them three times as many.
extern const char steps_begin[], steps_end[];
int steps(void);
#if defined __x86_64__
__asm__(".text\n.globl steps, steps_begin, steps_end\nsteps:\nsteps_begin:\n"
        "mov $0, %eax\nmov $3, %ecx\n"
        "1: add $5, %eax\nsub $1, %ecx\njnz 1b\n"
        "steps_end: ret\n");
enum { EXPECTED = 2 + 3 * 3 };
#else
__asm__(".text\n.globl steps, steps_begin, steps_end\nsteps:\nsteps_begin:\n"
        "mov w0, #0\nmov w1, #3\n"
        "1: add w0, w0, #5\nsubs w1, w1, #1\nb.ne 1b\n"
        "steps_end: ret\n");
enum { EXPECTED = 2 + 3 * 3 };
#endif

static void tracee(void) {
    CHECK(ptrace(PTRACE_TRACEME, 0, 0, 0) == 0);
    raise(SIGSTOP);
    int result = steps();
    say("tracee: %d\n", result);
    _exit(result);
}

static siginfo_t signal_info(pid_t pid) {
    siginfo_t info;
    CHECK(ptrace(PTRACE_GETSIGINFO, pid, 0, (uintptr_t)&info) == 0);
    return info;
}

int main(void) {
    pid_t pid = fork();
    if (pid == 0) tracee();
    CHECK(WSTOPSIG(next_stop(pid)) == SIGSTOP);
    CHECK(ptrace(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_EXITKILL) == 0);

    unsigned long original = peek(pid, steps_begin), trap = original;
#if defined __x86_64__
    trap = (original & ~0xfful) | 0xcc;
    const int behind = 1, code = SI_KERNEL;
#else
    trap = (original & ~0xfffffffful) | 0xd4200000;
    const int behind = 0, code = 1 /* TRAP_BRKPT */;
#endif
    CHECK(ptrace(PTRACE_POKETEXT, pid, (uintptr_t)steps_begin, trap) == 0);
    CHECK(ptrace(PTRACE_CONT, pid, 0, 0) == 0);
    int status = next_stop(pid);
    CHECK(WSTOPSIG(status) == SIGTRAP && signal_info(pid).si_code == code);
    registers regs = get_registers(pid);
    CHECK(REG_PC(regs) == (uintptr_t)steps_begin + behind);
    say("breakpoint reached\n");
    CHECK(ptrace(PTRACE_POKETEXT, pid, (uintptr_t)steps_begin, original) == 0);
    REG_PC(regs) = (uintptr_t)steps_begin;
    set_registers(pid, regs);

    int count = 0;
    while (REG_PC(get_registers(pid)) != (uintptr_t)steps_end) {
        CHECK(ptrace(PTRACE_SINGLESTEP, pid, 0, 0) == 0);
        status = next_stop(pid);
        CHECK(WSTOPSIG(status) == SIGTRAP && signal_info(pid).si_code == 2 /* TRAP_TRACE */);
        uintptr_t pc = REG_PC(get_registers(pid));
        CHECK(pc > (uintptr_t)steps_begin && pc <= (uintptr_t)steps_end);
        count++;
    }
    CHECK(count == EXPECTED);
    say("%d single steps\n", count);
    CHECK(ptrace(PTRACE_CONT, pid, 0, 0) == 0);
    say("end: %s\n", status_text(next_stop(pid)));
    return 0;
}
