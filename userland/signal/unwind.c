// An unwinder gets from a handler through the signal frame to the code that was interrupted, and on to main: also where
// the fault is the first instruction of a function, and where the handler runs on an alternate stack.
// concept: 6 signals
// libc: glibc
// flags: -funwind-tables
#include "check.h"
#include <setjmp.h>
#include <unwind.h>

// Functions of a known size, so that a frame can be told to be in one.
enum { SIZE = 256 };
#define SEPARATE __attribute__((noipa, aligned(SIZE)))

static uintptr_t frames[64];
static size_t count;
static sigjmp_buf back;

static _Unwind_Reason_Code note(struct _Unwind_Context *context, void *unused) {
    (void)unused;
    int before = 0;
    uintptr_t pc = _Unwind_GetIPInfo(context, &before);
    if (count < COUNT(frames)) frames[count++] = pc - !before;
    return _URC_NO_REASON;
}

SEPARATE static void handler(int sig) {
    (void)sig;
    count = 0;
    _Unwind_Backtrace(note, NULL);
    siglongjmp(back, 1);
}

#define FUNCTION(name, body)                 \
    SEPARATE static void name(char *to) {    \
        body;                                \
        __asm__ volatile("" ::: "memory");   \
    }
FUNCTION(fault, *(volatile char *)to = 1)
FUNCTION(caller, fault(to))
FUNCTION(outermost, caller(to))

static size_t frame_in(void (*function)(char *)) {
    for (size_t i = 0; i < count; i++)
        if (frames[i] >= (uintptr_t)function && frames[i] < (uintptr_t)function + SIZE) return i;
    return 0;
}

static void look(const char *where) {
    if (!sigsetjmp(back, 1)) outermost(bad_address);
    size_t first = frame_in(fault), second = frame_in(caller), third = frame_in(outermost);
    CHECK(first > 0 && second == first + 1 && third == second + 1);
    CHECK(count > third + 1);
    say("%s: handler, fault, its caller and the caller's caller\n", where);
}

int main(void) {
    struct sigaction action = {.sa_handler = handler};
    CHECK(sigaction(SIGSEGV, &action, NULL) == 0);
    look("on the same stack");
    static char memory[65536];
    stack_t stack = {.ss_sp = memory, .ss_size = sizeof memory};
    CHECK(sigaltstack(&stack, NULL) == 0);
    action.sa_flags = SA_ONSTACK;
    CHECK(sigaction(SIGSEGV, &action, NULL) == 0);
    look("on another stack");
    return 0;
}
