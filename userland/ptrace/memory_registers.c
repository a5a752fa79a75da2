// A tracer reads and writes the memory and the registers of a stopped task: PEEK and POKE, also into read-only code,
// process_vm_readv and _writev, /proc/PID/mem, general and floating-point register sets; a call made from outside.
// concept: 8 ptrace
// qemu: no (it has no ptrace)
#include "trace.h"

static volatile unsigned long variable = 0x1122334455667788;
static char buffer[8192];

__attribute__((noinline)) static int add(int one, int two) {
    __asm__ volatile("");
    return one + two;
}

static void tracee(void) {
    CHECK(ptrace(PTRACE_TRACEME, 0, 0, 0) == 0);
    for (;;) {
        raise(SIGSTOP);
        say("tracee: variable %#lx, buffer %.5s, sum %d\n", variable, buffer + 4094, add(2, 3));
    }
}

static void go_on(pid_t pid) {
    CHECK(ptrace(PTRACE_CONT, pid, 0, 0) == 0);
    CHECK(WSTOPSIG(next_stop(pid)) == SIGSTOP);
}

int main(void) {
    pid_t pid = fork();
    if (pid == 0) tracee();
    CHECK(WSTOPSIG(next_stop(pid)) == SIGSTOP);
    CHECK(ptrace(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_EXITKILL) == 0);
    go_on(pid);

    CHECK(peek(pid, &variable) == variable);
    CHECK(ptrace(PTRACE_POKEDATA, pid, (uintptr_t)&variable, 0xabcdef) == 0 && peek(pid, &variable) == 0xabcdef);
    unsigned long word;
    CHECK_FAILS(ptrace(PTRACE_PEEKDATA, pid, 8, (uintptr_t)&word), EIO);
    CHECK_FAILS(ptrace(PTRACE_POKEDATA, pid, 8, 1), EIO);

    // Across a page, in two pieces on each side; memory of its own after the fork.
    struct iovec local[2] = {{"he", 2}, {"llo", 3}}, remote = {buffer + 4094, 5};
    CHECK(syscall(SYS_process_vm_writev, pid, local, 2, &remote, 1, 0) == 5 && buffer[4094] == 0);
    char text[6] = "";
    struct iovec into = {text, 5};
    CHECK(syscall(SYS_process_vm_readv, pid, &into, 1, &remote, 1, 0) == 5 && strcmp(text, "hello") == 0);
    remote.iov_base = bad_address;
    CHECK_FAILS(syscall(SYS_process_vm_readv, pid, &into, 1, &remote, 1, 0), EFAULT);
    go_on(pid);

    // Into the code, which the tracee itself may not write: /proc/PID/mem does it too.
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/mem", pid);
    int fd = open(path, O_RDWR);
    unsigned char code[16], changed[16];
    CHECK(fd >= 0 && pread(fd, code, sizeof code, (off_t)(uintptr_t)add) == sizeof code);
    CHECK(memcmp(code, (void *)(uintptr_t)add, sizeof code) == 0);
    memcpy(changed, code, sizeof code);
#if defined __x86_64__
    static const unsigned char answer[] = {0xb8, 42, 0, 0, 0, 0xc3};
#else
    static const unsigned char answer[] = {0x40, 0x05, 0x80, 0x52, 0xc0, 0x03, 0x5f, 0xd6};
#endif
    memcpy(changed, answer, sizeof answer);
    CHECK(pwrite(fd, changed, sizeof changed, (off_t)(uintptr_t)add) == sizeof changed);
    go_on(pid);
    CHECK(add(2, 3) == 5);
    memcpy(&word, code, sizeof word);
    CHECK(ptrace(PTRACE_POKETEXT, pid, (uintptr_t)add, word) == 0);
    memcpy(&word, code + 8, sizeof word);
    CHECK(ptrace(PTRACE_POKETEXT, pid, (uintptr_t)add + 8, word) == 0);
    go_on(pid);

    // Registers: a copy set and read back; the floating-point set has its size.
    registers regs = get_registers(pid), again;
    CHECK(REG_PC(regs) && REG_SP(regs));
    set_registers(pid, regs);
    again = get_registers(pid);
    CHECK(memcmp(&regs, &again, sizeof regs) == 0);
    static char floating[4096];
    struct iovec vector = {floating, sizeof floating};
    CHECK(ptrace(PTRACE_GETREGSET, pid, NT_PRFPREG, (uintptr_t)&vector) == 0);
#if defined __x86_64__
    CHECK(vector.iov_len == 512);
#else
    CHECK(vector.iov_len == 528);
#endif
    CHECK(ptrace(PTRACE_SETREGSET, pid, NT_PRFPREG, (uintptr_t)&vector) == 0);
    CHECK_FAILS(ptrace(PTRACE_GETREGSET, pid, 0x12345, (uintptr_t)&vector), EINVAL);
    go_on(pid);
    CHECK(kill(pid, SIGKILL) == 0 && next_stop(pid) == SIGKILL);
    CHECK_FAILS(ptrace(PTRACE_PEEKDATA, getpid(), (uintptr_t)&variable, (uintptr_t)&word), ESRCH);
    say("killed\n");
    return 0;
}
