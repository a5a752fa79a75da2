// The stack grows by itself as it is touched, up to RLIMIT_STACK; the overflow is a SIGSEGV, seen on another stack.
// qemu: no (it says ACCERR for the overflow)
#include "fault.h"

static int depth_reached;

// Each level touches a page of its own.
__attribute__((noinline)) static int descend(int depth) {
    volatile char frame[4096];
    frame[0] = (char)depth;
    depth_reached = depth;
    int below = depth > 0 ? descend(depth - 1) : 0;
    return below + frame[0] * 0;
}

static volatile bool falling = true;

__attribute__((noinline)) static int fall(int depth) {
    volatile char frame[1024];
    frame[0] = (char)depth;
    depth_reached = depth;
    return falling ? fall(depth + 1) + frame[0] : 0;
}

static char *alternate;
static size_t alternate_size = 65536;

static void on_overflow(int sig, siginfo_t *info, void *context) {
    (void)context;
    char here;
    bool on_alternate = &here >= alternate && &here < alternate + alternate_size;
    say("%s %s %s, after at least %s\n", signal_name(sig), fault_code_name(sig, info->si_code),
        on_alternate ? "on the alternate stack" : "on the overflown stack",
        depth_reached >= 512 ? "512 KiB" : "too little");
    _exit(0);
}

int main(void) {
    // 4 MiB of stack below the 8 MiB that are usual.
    descend(1000);
    say("1000 pages of stack\n");

    pid_t pid = fork();
    if (pid == 0) {
        // The limit is read at each growth. One MiB is left from the top of the stack.
        struct rlimit limit = {5 << 20, RLIM_INFINITY};
        CHECK(setrlimit(RLIMIT_STACK, &limit) == 0);
        alternate = mmap(NULL, alternate_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        stack_t stack = {.ss_sp = alternate, .ss_size = alternate_size};
        struct sigaction action = {.sa_sigaction = on_overflow, .sa_flags = SA_SIGINFO | SA_ONSTACK};
        CHECK(sigaltstack(&stack, NULL) == 0 && sigaction(SIGSEGV, &action, NULL) == 0);
        fall(0);
    }
    say("overflow with an alternate stack: %s\n", status_text(status_of(pid)));

    pid = fork();
    if (pid == 0) {
        struct rlimit none = {0, 0};
        setrlimit(RLIMIT_CORE, &none);
        struct sigaction action = {.sa_sigaction = on_overflow, .sa_flags = SA_SIGINFO};
        CHECK(sigaction(SIGSEGV, &action, NULL) == 0);
        fall(0);
    }
    say("overflow without one: %s\n", status_text(status_of(pid)));
    return 0;
}
