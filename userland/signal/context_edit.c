// A handler sees the interrupted registers in its ucontext and can change them: the return goes where it says, with
// the mask that it says.
// concept: 6 signals
#include "context.h"

static uintptr_t fault_at, resume_at;
static int skipped;

// A load from nowhere between two labels.
__attribute__((noinline)) static void fault(void) {
#if defined __x86_64__
    __asm__ volatile("lea 1f(%%rip), %%rax; mov %%rax, %0; lea 2f(%%rip), %%rax; mov %%rax, %1\n"
                     "xor %%eax, %%eax\n1: mov 8(%%rax), %%rax\n2:"
                     : "=m"(fault_at), "=m"(resume_at)::"rax", "memory");
#else
    __asm__ volatile("adr x0, 1f; str x0, %0; adr x0, 2f; str x0, %1; mov x0, #0\n1: ldr x0, [x0, #8]\n2:"
                     : "=m"(fault_at), "=m"(resume_at)::"x0", "memory");
#endif
}

static void skip(int sig, siginfo_t *info, void *context) {
    (void)sig, (void)info;
    char here;
    CHECK(context_pc(context) == fault_at);
    // The frame lies below the interrupted stack pointer, and this function below the frame.
    CHECK((uintptr_t)&here < context_sp(context) && (uintptr_t)context < context_sp(context));
    CHECK((uintptr_t)context % 8 == 0);
    context_set_pc(context, resume_at);
    sigaddset(&((ucontext_t *)context)->uc_sigmask, SIGUSR2);
    skipped++;
}

int main(void) {
    struct sigaction action = {.sa_sigaction = skip, .sa_flags = SA_SIGINFO};
    CHECK(sigaction(SIGSEGV, &action, NULL) == 0);
    for (int i = 0; i < 100; i++) fault();
    CHECK(skipped == 100);
    sigset_t now;
    CHECK(sigprocmask(SIG_SETMASK, NULL, &now) == 0);
    CHECK(sigismember(&now, SIGUSR2) && !sigismember(&now, SIGSEGV));
    say("skipped %d faults; USR2 blocked by the context\n", skipped);
    return 0;
}
