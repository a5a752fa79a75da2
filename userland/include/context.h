// The program counter and the stack pointer in the ucontext of a signal handler, on each architecture.
#pragma once
#include "check.h"
#include <ucontext.h>

#if defined __x86_64__
UNUSED static uintptr_t context_pc(const void *context) {
    return (uintptr_t)((const ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
}
UNUSED static void context_set_pc(void *context, uintptr_t pc) {
    ((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP] = (greg_t)pc;
}
UNUSED static uintptr_t context_sp(const void *context) {
    return (uintptr_t)((const ucontext_t *)context)->uc_mcontext.gregs[REG_RSP];
}
#elif defined __aarch64__
UNUSED static uintptr_t context_pc(const void *context) {
    return ((const ucontext_t *)context)->uc_mcontext.pc;
}
UNUSED static void context_set_pc(void *context, uintptr_t pc) { ((ucontext_t *)context)->uc_mcontext.pc = pc; }
UNUSED static uintptr_t context_sp(const void *context) {
    return ((const ucontext_t *)context)->uc_mcontext.sp;
}
#endif
