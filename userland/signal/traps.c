// Division by zero, undefined instruction, breakpoint and privileged instruction: signal, code and address are those
// of the architecture, and the program counter in the frame is that of the instruction (behind it for a breakpoint on
// x86-64).
// concept: 6 signals
// qemu: no (it gives other codes)
#include "context.h"
#include "fault.h"

static uintptr_t seen_pc;

static void with_pc(int sig, siginfo_t *info, void *context) {
    seen_pc = context_pc(context);
    fault_handler(sig, info, context);
}

// The instruction between the two labels of the asm statement; both are set before it runs.
static uintptr_t before, behind;

#if defined __x86_64__
#define INSTRUCTION(text)                                                     \
    __asm__ volatile("lea 1f(%%rip), %%rax; mov %%rax, %0; lea 2f(%%rip), %%rax; mov %%rax, %1; xor %%eax, %%eax\n" \
                     "1: " text "\n2:"                                            \
                     : "=m"(before), "=m"(behind)::"rax", "rcx", "rdx", "memory")
static void undefined(void *unused) { (void)unused; INSTRUCTION("ud2"); }
static void breakpoint(void *unused) { (void)unused; INSTRUCTION("int3"); }
static void privileged(void *unused) { (void)unused; INSTRUCTION("hlt"); }
static void divide(void *unused) { (void)unused; INSTRUCTION("divl %%eax"); }
static void noncanonical(void *unused) { (void)unused; INSTRUCTION("movabsq 0x7fff000000000000, %%rax"); }
#else
#define INSTRUCTION(text)                                                                               \
    __asm__ volatile("adr x0, 1f; str x0, %0; adr x0, 2f; str x0, %1; mov x0, #0\n1: " text "\n2:" \
                     : "=m"(before), "=m"(behind)::"x0", "x1", "memory")
static void undefined(void *unused) { (void)unused; INSTRUCTION("udf #0"); }
static void breakpoint(void *unused) { (void)unused; INSTRUCTION("brk #0"); }
static void privileged(void *unused) { (void)unused; INSTRUCTION("msr daifset, #15"); }
static void divide(void *unused) { (void)unused; INSTRUCTION("udiv x1, x0, x0"); }
#endif

static void try(const char *label, void (*action)(void *), int sig, int code, bool has_address) {
    seen_pc = 0;
    int got = try_fault(action, NULL);
    if (got != sig || fault_info.si_code != code)
        say("%s gives %s %s\n", label, signal_name(got), fault_code_name(got, fault_info.si_code));
    CHECK(got == sig);
    if (got == 0) return;
    CHECK(fault_info.si_code == code);
    CHECK(fault_info.si_addr == (has_address ? (void *)before : NULL));
}

int main(void) {
#if defined __x86_64__
    try("divide", divide, SIGFPE, FPE_INTDIV, true);
    try("undefined", undefined, SIGILL, ILL_ILLOPN, true);
    try("breakpoint", breakpoint, SIGTRAP, SI_KERNEL, false);
    try("privileged", privileged, SIGSEGV, SI_KERNEL, false);
    try("noncanonical", noncanonical, SIGSEGV, SI_KERNEL, false);
    const bool breakpoint_behind = true;
#else
    // Division by zero is no fault here: the quotient is zero.
    try("divide", divide, 0, 0, false);
    try("undefined", undefined, SIGILL, ILL_ILLOPC, true);
    try("breakpoint", breakpoint, SIGTRAP, TRAP_BRKPT, true);
    try("privileged", privileged, SIGILL, ILL_ILLOPC, true);
    const bool breakpoint_behind = false;
#endif
    struct sigaction action = {.sa_sigaction = with_pc, .sa_flags = SA_SIGINFO};
    CHECK(sigaction(SIGTRAP, &action, NULL) == 0 && sigaction(SIGILL, &action, NULL) == 0);
    if (sigsetjmp(fault_jump, 1) == 0) breakpoint(NULL);
    CHECK(seen_pc == (breakpoint_behind ? behind : before));
    if (sigsetjmp(fault_jump, 1) == 0) undefined(NULL);
    CHECK(seen_pc == before);

    static const struct {
        const char *name;
        void (*action)(void *);
        int sig;
    } deaths[] = {{"undefined", undefined, SIGILL}, {"breakpoint", breakpoint, SIGTRAP}};
    for (size_t i = 0; i < COUNT(deaths); i++) {
        pid_t pid = fork();
        if (pid == 0) {
            struct rlimit none = {0, 0};
            setrlimit(RLIMIT_CORE, &none);
            signal(deaths[i].sig, SIG_DFL);
            deaths[i].action(NULL);
            _exit(0);
        }
        say("%s: %s\n", deaths[i].name, status_text(status_of(pid)));
    }
    return 0;
}
