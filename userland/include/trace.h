// What tracers share: names for the tasks they trace (numbers differ from run to run), words for their stops, and the
// registers of each architecture under common names.
#pragma once
#include "check.h"
#include <elf.h>
#include <linux/ptrace.h>
#include <sys/uio.h>
#include <sys/user.h>

// Not <sys/ptrace.h>: it cannot be had together with the kernel's header in every library.
UNUSED static long ptrace(long request, pid_t pid, uintptr_t address, uintptr_t data) {
    return syscall(SYS_ptrace, request, pid, address, data);
}

// The word there; unlike the C library's call, the system call stores it.
UNUSED static unsigned long peek(pid_t pid, const volatile void *address) {
    unsigned long word;
    CHECK(ptrace(PTRACE_PEEKDATA, pid, (uintptr_t)address, (uintptr_t)&word) == 0);
    return word;
}

#if defined __x86_64__
typedef struct user_regs_struct registers;
#define REG_PC(regs) ((regs).rip)
#define REG_SP(regs) ((regs).rsp)
#define REG_RESULT(regs) ((regs).rax)
#else
typedef struct user_regs_struct registers;
#define REG_PC(regs) ((regs).pc)
#define REG_SP(regs) ((regs).sp)
#define REG_RESULT(regs) ((regs).regs[0])
#endif

UNUSED static registers get_registers(pid_t pid) {
    registers regs;
    struct iovec vector = {&regs, sizeof regs};
    CHECK(ptrace(PTRACE_GETREGSET, pid, NT_PRSTATUS, (uintptr_t)&vector) == 0 && vector.iov_len == sizeof regs);
    return regs;
}

UNUSED static void set_registers(pid_t pid, registers regs) {
    struct iovec vector = {&regs, sizeof regs};
    CHECK(ptrace(PTRACE_SETREGSET, pid, NT_PRSTATUS, (uintptr_t)&vector) == 0);
}

// Tasks in the order in which they were first seen.
static pid_t trace_tasks[64];
static int trace_count;

UNUSED static const char *task_name(pid_t pid) {
    static char names[4][16];
    static int next;
    int i = 0;
    while (i < trace_count && trace_tasks[i] != pid) i++;
    if (i == trace_count) trace_tasks[trace_count++] = pid;
    char *name = names[next++ % 4];
    snprintf(name, sizeof names[0], "task %d", i);
    return name;
}

UNUSED static unsigned long event_message(pid_t pid) {
    unsigned long message = 0;
    CHECK(ptrace(PTRACE_GETEVENTMSG, pid, 0, (uintptr_t)&message) == 0);
    return message;
}

UNUSED static const char *stop_text(int status) {
    static char text[64];
    static const char *const events[] = {
        [PTRACE_EVENT_FORK] = "EVENT_FORK",   [PTRACE_EVENT_VFORK] = "EVENT_VFORK",
        [PTRACE_EVENT_CLONE] = "EVENT_CLONE", [PTRACE_EVENT_EXEC] = "EVENT_EXEC",
        [PTRACE_EVENT_EXIT] = "EVENT_EXIT",   [PTRACE_EVENT_VFORK_DONE] = "EVENT_VFORK_DONE",
    };
    if (!WIFSTOPPED(status)) return status_text(status);
    unsigned event = (unsigned)status >> 16;
    if (WSTOPSIG(status) == (SIGTRAP | 0x80)) return "system call";
    if (event == PTRACE_EVENT_STOP) snprintf(text, sizeof text, "EVENT_STOP %s", signal_name(WSTOPSIG(status)));
    else if (event && event < COUNT(events)) snprintf(text, sizeof text, "%s", events[event]);
    else snprintf(text, sizeof text, "signal %s", signal_name(WSTOPSIG(status)));
    return text;
}

// Wait for the next stop of this task and demand it to be so.
UNUSED static int next_stop(pid_t pid) {
    int status;
    CHECK(waitpid(pid, &status, __WALL) == pid);
    return status;
}
