// Filters for system calls: errors and SIGSYS instead of a call, arguments, several filters, inheritance by children and
// threads, strict mode, and the deaths that a filter decides on.
// qemu: no (it has no seccomp)
#include "thread.h"
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>

#if defined __x86_64__
#define THIS_ARCH AUDIT_ARCH_X86_64
#else
#define THIS_ARCH AUDIT_ARCH_AARCH64
#endif
#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define EQUALS(value, yes, no) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, yes, no)
#define ANSWER(value) BPF_STMT(BPF_RET | BPF_K, value)

static long install(struct sock_filter *filter, unsigned short length, unsigned flags) {
    struct sock_fprog program = {length, filter};
    return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
}

// The given answer for one call, everything else is allowed.
static void answer(long nr, unsigned value, unsigned flags) {
    struct sock_filter filter[] = {
        LOAD(arch), EQUALS(THIS_ARCH, 1, 0), ANSWER(SECCOMP_RET_KILL_PROCESS),
        LOAD(nr),   EQUALS((unsigned)nr, 0, 1), ANSWER(value), ANSWER(SECCOMP_RET_ALLOW),
    };
    CHECK(install(filter, COUNT(filter), flags) == 0);
}

static siginfo_t trapped;
static void on_trap(int sig, siginfo_t *info, void *context) {
    (void)sig, (void)context;
    trapped = *info;
}

static void *in_thread(void *code) {
    CHECK_FAILS(syscall(SYS_getppid), ENOTTY);
    thread_exit((int)(intptr_t)code);
}

static void *killed_thread(void *word) {
    announce_death(word);
    answer(SYS_getpgid, SECCOMP_RET_KILL_THREAD, 0);
    syscall(SYS_getpgid, 0);
    return NULL;
}

static int in_child(int what) {
    pid_t pid = fork();
    if (pid != 0) return status_of(pid);
    switch (what) {
    case 0:
        answer(SYS_getsid, SECCOMP_RET_KILL_PROCESS, 0);
        syscall(SYS_getsid, 0);
        break;
    case 1:
        CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) == 0);
        CHECK(write(1, "strict\n", 7) == 7);
        syscall(SYS_exit, 5);
        break;
    case 2:
        CHECK(syscall(SYS_seccomp, SECCOMP_SET_MODE_STRICT, 0, NULL) == 0);
        syscall(SYS_getpid);
        break;
    case 3: {
        static uint32_t word = 1;
        start_thread(killed_thread, &word);
        await_death(&word);
        _exit(6);
    }
    case 4:  // by the last thread: as for the process
        answer(SYS_getsid, SECCOMP_RET_KILL_THREAD, 0);
        syscall(SYS_getsid, 0);
    }
    _exit(0);
}

int main(void) {
    struct sock_filter nothing[] = {ANSWER(SECCOMP_RET_ALLOW)};
    struct sock_filter endless[] = {LOAD(nr)};
    struct sock_filter outside[] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 64), ANSWER(0)};
    struct sock_filter unaligned[] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 2), ANSWER(0)};
    struct sock_filter jump_out[] = {EQUALS(1, 5, 0), ANSWER(0)};
    struct sock_filter divide[] = {BPF_STMT(BPF_ALU | BPF_DIV | BPF_K, 0), ANSWER(0)};
    if (geteuid() != 0) CHECK_FAILS(install(nothing, 1, 0), EACCES);
    CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_GET_SECCOMP) == 0);
    CHECK_FAILS(install(endless, 1, 0), EINVAL);
    CHECK_FAILS(install(outside, 2, 0), EINVAL);
    CHECK_FAILS(install(unaligned, 2, 0), EINVAL);
    CHECK_FAILS(install(jump_out, 2, 0), EINVAL);
    CHECK_FAILS(install(divide, 2, 0), EINVAL);
    CHECK_FAILS(install(nothing, 0, 0), EINVAL);
    CHECK_FAILS(install(nothing, 1, 1 << 20), EINVAL);
    CHECK_FAILS(syscall(SYS_seccomp, 77, 0, NULL), EINVAL);
    unsigned action = SECCOMP_RET_ERRNO, unknown = 0x12340000;
    CHECK(syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) == 0);
    CHECK_FAILS(syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &unknown), EOPNOTSUPP);

    for (int what = 0; what < 5; what++) {
        int status = in_child(what);
        say("death %d: %s\n", what, status_text(status));
    }

    answer(SYS_getppid, SECCOMP_RET_ERRNO | ENOTTY, 0);
    CHECK_FAILS(syscall(SYS_getppid), ENOTTY);
    CHECK(syscall(SYS_getpid) == getpid());
    pid_t pid = fork();
    if (pid == 0) {
        CHECK_FAILS(syscall(SYS_getppid), ENOTTY);
        _exit(0);
    }
    CHECK(status_of(pid) == 0);
    pthread_t thread = start_thread(in_thread, (void *)3);
    (void)thread;
    sleep_ms(10);
    say("error, inherited\n");

    // A second filter that is less strict changes nothing; one that is stricter wins.
    answer(SYS_getppid, SECCOMP_RET_ALLOW, 0);
    CHECK_FAILS(syscall(SYS_getppid), ENOTTY);
    struct sigaction action_on_trap = {.sa_sigaction = on_trap, .sa_flags = SA_SIGINFO};
    CHECK(sigaction(SIGSYS, &action_on_trap, NULL) == 0);
    answer(SYS_getppid, SECCOMP_RET_TRAP | 99, 0);
    syscall(SYS_getppid);
    CHECK(trapped.si_signo == SIGSYS && trapped.si_code == 1 && trapped.si_errno == 99);
    CHECK(trapped.si_syscall == SYS_getppid && trapped.si_arch == THIS_ARCH && trapped.si_call_addr);
    say("trap\n");

    // By argument: only one descriptor is refused.
    struct sock_filter by_argument[] = {
        LOAD(nr), EQUALS(SYS_fsync, 0, 3), LOAD(args[0]),
        BPF_STMT(BPF_ALU | BPF_AND | BPF_K, 0xff), EQUALS(77, 1, 0),
        ANSWER(SECCOMP_RET_ALLOW), ANSWER(SECCOMP_RET_ERRNO | EXDEV),
    };
    by_argument[1] = (struct sock_filter)EQUALS(SYS_fsync, 0, 3);
    CHECK(install(by_argument, COUNT(by_argument), 0) == 0);
    CHECK_FAILS(fsync(78), EBADF);
    CHECK_FAILS(fsync(77), EXDEV);
    CHECK(prctl(PR_GET_SECCOMP) == 2);
    CHECK_FAILS(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT), EINVAL);
    say("argument\n");
    return 0;
}
