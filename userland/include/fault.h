// Provoke a fault and look at the siginfo: `try_fault(action, argument)` runs the action with handlers for the fault
// signals in place and comes back by siglongjmp when one arrives.
#pragma once
#include "check.h"
#include <setjmp.h>

static sigjmp_buf fault_jump;
static siginfo_t fault_info;

UNUSED static void fault_handler(int sig, siginfo_t *info, void *context) {
    (void)sig, (void)context;
    fault_info = *info;
    siglongjmp(fault_jump, 1);
}

UNUSED static const char *fault_code_name(int sig, int code) {
    static const struct {
        int sig, code;
        const char *name;
    } names[] = {
        {SIGSEGV, SEGV_MAPERR, "SEGV_MAPERR"}, {SIGSEGV, SEGV_ACCERR, "SEGV_ACCERR"}, {SIGBUS, BUS_ADRERR, "BUS_ADRERR"},
        {SIGBUS, BUS_ADRALN, "BUS_ADRALN"}, {SIGFPE, FPE_INTDIV, "FPE_INTDIV"}, {SIGFPE, FPE_FLTDIV, "FPE_FLTDIV"},
        {SIGILL, ILL_ILLOPN, "ILL_ILLOPN"}, {SIGILL, ILL_ILLOPC, "ILL_ILLOPC"}, {SIGTRAP, TRAP_BRKPT, "TRAP_BRKPT"},
        {SIGTRAP, TRAP_TRACE, "TRAP_TRACE"}, {0, SI_USER, "SI_USER"}, {0, SI_KERNEL, "SI_KERNEL"},
        {0, SI_TKILL, "SI_TKILL"}, {0, SI_QUEUE, "SI_QUEUE"}, {0, SI_TIMER, "SI_TIMER"},
    };
    static char number[24];
    for (size_t i = 0; i < COUNT(names); i++)
        if (names[i].code == code && (names[i].sig == sig || names[i].sig == 0)) return names[i].name;
    snprintf(number, sizeof number, "code %d", code);
    return number;
}

// The signal that the action raised, 0 for none; `fault_info` holds the rest.
UNUSED static int try_fault(void (*action)(void *), void *argument) {
    static const int signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP};
    struct sigaction catcher = {.sa_sigaction = fault_handler, .sa_flags = SA_SIGINFO};
    for (size_t i = 0; i < COUNT(signals); i++) CHECK(sigaction(signals[i], &catcher, NULL) == 0);
    memset(&fault_info, 0, sizeof fault_info);
    if (sigsetjmp(fault_jump, 1) == 0) action(argument);
    return fault_info.si_signo;
}

// The accesses that programs try, always of the width in the name and never optimised away.
UNUSED static void load8(void *at) { (void)*(volatile uint8_t *)at; }
UNUSED static void store8(void *at) { *(volatile uint8_t *)at = 0x5a; }

struct UNUSED unaligned64 {
    uint64_t value;
} __attribute__((packed));

UNUSED static void load64(void *at) { (void)((volatile struct unaligned64 *)at)->value; }
UNUSED static void store64(void *at) { ((volatile struct unaligned64 *)at)->value = 0x5a5a5a5a5a5a5a5a; }

// Print signal, code and the address as an offset from a base.
UNUSED static void say_fault(const char *label, int sig, const void *base) {
    if (sig) say("%s: %s %s at %+ld\n", label, signal_name(sig), fault_code_name(sig, fault_info.si_code),
                 (long)((char *)fault_info.si_addr - (const char *)base));
    else say("%s: no fault\n", label);
}
