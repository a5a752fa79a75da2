// Three threads in functions of known names, one of which crashes: for debuggers, and for the core that it leaves.
// concept: 6 signals
// run: => SIGSEGV
// qemu: no (it writes a core of its own)
#include "thread.h"

static struct gate ready;
static volatile int sink;

__attribute__((noinline)) static void sleeps_here(void) {
    for (;;) pause();
}

static void *sleeper(void *unused) {
    gate_open(ready);
    sleeps_here();
    return unused;
}

__attribute__((noinline)) static void innermost(volatile char *where) {
    *where = 1;
    sink++;
}

__attribute__((noinline)) static void middle(volatile char *where) {
    innermost(where);
    sink++;
}

__attribute__((noinline)) static void outermost(volatile char *where) {
    middle(where);
    sink++;
}

int main(void) {
    struct rlimit all = {RLIM_INFINITY, RLIM_INFINITY};
    setrlimit(RLIMIT_CORE, &all);
    ready = gate_new();
    for (int i = 0; i < 2; i++) {
        start_thread(sleeper, NULL);
        gate_wait(ready);
    }
    say("crashing\n");
    sleep_ms(20);
    outermost(bad_address);
    return 0;
}
