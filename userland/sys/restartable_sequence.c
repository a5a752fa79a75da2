// A restartable sequence that a signal interrupts goes on at its abort handler; the registered area says which processor
// it is; what cannot be registered.
// libc: musl
// qemu: no (it has no rseq)
#include "check.h"
#include <linux/rseq.h>

#define SIGNATURE 0x53053053

static struct rseq area __attribute__((aligned(32)));
static volatile int interrupted;

static void on_signal(int sig) {
    (void)sig;
    interrupted = 1;
}

// Spin inside a critical section until it is aborted. Returns 1 when it was.
static int spin_until_aborted(void) {
#if defined __x86_64__
    __asm__ goto(
        ".pushsection .data\n"
        ".balign 32\n"
        "3: .long 0, 0\n"
        ".quad 1f, 2f - 1f, 4f\n"
        ".popsection\n"
        "lea 3b(%%rip), %%rax\n"
        "mov %%rax, %0\n"
        "1: pause\n"
        "jmp 1b\n"
        "2:\n"
        ".byte 0x0f, 0xb9, 0x3d\n"
        ".long 0x53053053\n"
        "4: jmp %l[aborted]\n"
        :
        : "m"(area.rseq_cs)
        : "rax", "memory"
        : aborted);
#else
    __asm__ goto(
        ".pushsection .data\n"
        ".balign 32\n"
        "3: .long 0, 0\n"
        ".quad 1f, 2f - 1f, 4f\n"
        ".popsection\n"
        "adrp x9, 3b\n"
        "add x9, x9, :lo12:3b\n"
        "str x9, %0\n"
        "1: yield\n"
        "b 1b\n"
        "2:\n"
        ".inst 0x53053053\n"
        "4: b %l[aborted]\n"
        :
        : "m"(area.rseq_cs)
        : "x9", "memory"
        : aborted);
#endif
    return 0;
aborted:
    return 1;
}

static long rseq(void *address, unsigned length, int flags, unsigned signature) {
    return syscall(SYS_rseq, address, length, flags, signature);
}

int main(void) {
    area.cpu_id = (unsigned)RSEQ_CPU_ID_UNINITIALIZED;
    CHECK_FAILS(rseq((char *)&area + 1, 32, 0, SIGNATURE), EINVAL);
    CHECK_FAILS(rseq(&area, 31, 0, SIGNATURE), EINVAL);
    CHECK_FAILS(rseq(&area, 32, 2, SIGNATURE), EINVAL);
    CHECK_FAILS(rseq(&area, 32, RSEQ_FLAG_UNREGISTER, SIGNATURE), EINVAL);
    CHECK(rseq(&area, 32, 0, SIGNATURE) == 0);
    CHECK(area.cpu_id != (unsigned)RSEQ_CPU_ID_UNINITIALIZED && area.cpu_id == area.cpu_id_start);
    CHECK_FAILS(rseq(&area, 32, 0, SIGNATURE), EBUSY);
    CHECK_FAILS(rseq(&area, 32, 0, SIGNATURE + 1), EPERM);

    struct sigaction action = {.sa_handler = on_signal};
    CHECK(sigaction(SIGALRM, &action, NULL) == 0);
    struct itimerval timer = {{0, 0}, {0, 50000}};
    CHECK(setitimer(ITIMER_REAL, &timer, NULL) == 0);
    int aborts = 0;
    while (!interrupted) {
        CHECK(spin_until_aborted() == 1);
        CHECK(area.rseq_cs == 0);
        aborts++;
    }
    CHECK(aborts >= 1);
    say("aborted\n");

    pid_t pid = fork();
    if (pid == 0) _exit(rseq(&area, 32, 0, SIGNATURE) == -1 && errno == EBUSY ? 0 : 1);
    CHECK(status_of(pid) == 0);
    CHECK_FAILS(rseq(&area, 32, RSEQ_FLAG_UNREGISTER, SIGNATURE + 1), EPERM);
    CHECK(rseq(&area, 32, RSEQ_FLAG_UNREGISTER, SIGNATURE) == 0);
    CHECK(area.cpu_id == (unsigned)RSEQ_CPU_ID_UNINITIALIZED);

    // A section whose abort handler does not carry the signature is a bug of the program: SIGSEGV.
    pid = fork();
    if (pid == 0) {
        CHECK(rseq(&area, 32, 0, SIGNATURE + 1) == 0);
        CHECK(setitimer(ITIMER_REAL, &timer, NULL) == 0);
        spin_until_aborted();
        _exit(0);
    }
    say("%s\n", status_text(status_of(pid)));
    return 0;
}
