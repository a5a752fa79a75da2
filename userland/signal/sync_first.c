// A fault is delivered before any other pending signal, however low its number: its frame holds the faulting
// instruction, never the first one of somebody else's handler.
// concept: 6 signals
#include "context.h"

static uintptr_t fault_at, resume_at;
static atomic_bool done;
static atomic_int asynchronous;
static pid_t target;

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

static void on_segv(int sig, siginfo_t *info, void *context) {
    (void)sig;
    CHECK(info->si_code == SEGV_MAPERR && info->si_addr == (void *)8);
    CHECK(context_pc(context) == fault_at);
    context_set_pc(context, resume_at);
}

static void on_hup(int sig) {
    (void)sig;
    asynchronous++;
}

static void *pester(void *unused) {
    while (!done) {
        syscall(SYS_tgkill, getpid(), target, SIGHUP);
        sched_yield();
    }
    return unused;
}

int main(void) {
    struct sigaction segv = {.sa_sigaction = on_segv, .sa_flags = SA_SIGINFO}, hup = {.sa_handler = on_hup};
    CHECK(sigaction(SIGSEGV, &segv, NULL) == 0 && sigaction(SIGHUP, &hup, NULL) == 0);
    target = gettid();
    pthread_t thread;
    CHECK_PTHREAD(pthread_create(&thread, NULL, pester, NULL));
    int faults = 0;
    while (asynchronous < 50 || faults < 1000) {
        fault();
        faults++;
    }
    done = true;
    CHECK_PTHREAD(pthread_join(thread, NULL));
    say("faults among signals, each with its own address\n");
    return 0;
}
