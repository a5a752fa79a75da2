// What the guest programs share: checks that say where they failed, output that is never buffered across a fork, and
// gates to put two tasks in order without sleeping.
#pragma once

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define UNUSED __attribute__((unused))
// An address where nothing is mapped, ever; volatile so that no compiler reasons about it.
UNUSED static char *volatile bad_address = (char *)8;

#define COUNT(array) (sizeof(array) / sizeof *(array))

// The names of the errors that programs print: numbers differ between no two of our architectures, but names tell more.
UNUSED static const char *errno_name(int error) {
    static const struct {
        int number;
        const char *name;
    } names[] = {
        {0, "0"}, {EPERM, "EPERM"}, {ENOENT, "ENOENT"}, {ESRCH, "ESRCH"}, {EINTR, "EINTR"}, {EIO, "EIO"},
        {ENXIO, "ENXIO"}, {E2BIG, "E2BIG"}, {ENOEXEC, "ENOEXEC"}, {EBADF, "EBADF"}, {ECHILD, "ECHILD"},
        {EAGAIN, "EAGAIN"}, {ENOMEM, "ENOMEM"}, {EACCES, "EACCES"}, {EFAULT, "EFAULT"}, {EBUSY, "EBUSY"},
        {EEXIST, "EEXIST"}, {EXDEV, "EXDEV"}, {ENODEV, "ENODEV"}, {ENOTDIR, "ENOTDIR"}, {EISDIR, "EISDIR"},
        {EINVAL, "EINVAL"}, {ENFILE, "ENFILE"}, {EMFILE, "EMFILE"}, {ENOTTY, "ENOTTY"}, {ETXTBSY, "ETXTBSY"},
        {EFBIG, "EFBIG"}, {ENOSPC, "ENOSPC"}, {ESPIPE, "ESPIPE"}, {EROFS, "EROFS"}, {EMLINK, "EMLINK"},
        {EPIPE, "EPIPE"}, {EDOM, "EDOM"}, {ERANGE, "ERANGE"}, {EDEADLK, "EDEADLK"}, {ENAMETOOLONG, "ENAMETOOLONG"},
        {ENOLCK, "ENOLCK"}, {ENOSYS, "ENOSYS"}, {ENOTEMPTY, "ENOTEMPTY"}, {ELOOP, "ELOOP"}, {ENOMSG, "ENOMSG"},
        {EIDRM, "EIDRM"}, {EOVERFLOW, "EOVERFLOW"}, {ENOTSOCK, "ENOTSOCK"}, {EMSGSIZE, "EMSGSIZE"},
        {EOPNOTSUPP, "EOPNOTSUPP"}, {ECONNRESET, "ECONNRESET"}, {ENOTCONN, "ENOTCONN"},
        {ECONNREFUSED, "ECONNREFUSED"}, {EISCONN, "EISCONN"}, {ETIMEDOUT, "ETIMEDOUT"}, {EALREADY, "EALREADY"},
        {EINPROGRESS, "EINPROGRESS"}, {ECANCELED, "ECANCELED"}, {EOWNERDEAD, "EOWNERDEAD"},
        {ENOTRECOVERABLE, "ENOTRECOVERABLE"}, {EADDRINUSE, "EADDRINUSE"}, {EDESTADDRREQ, "EDESTADDRREQ"},
    };
    static _Thread_local char number[24];
    for (size_t i = 0; i < COUNT(names); i++)
        if (names[i].number == error) return names[i].name;
    snprintf(number, sizeof number, "errno %d", error);
    return number;
}

UNUSED static const char *signal_name(int sig) {
    static const char *const names[] = {
        "0", "SIGHUP", "SIGINT", "SIGQUIT", "SIGILL", "SIGTRAP", "SIGABRT", "SIGBUS", "SIGFPE", "SIGKILL", "SIGUSR1",
        "SIGSEGV", "SIGUSR2", "SIGPIPE", "SIGALRM", "SIGTERM", "SIGSTKFLT", "SIGCHLD", "SIGCONT", "SIGSTOP", "SIGTSTP",
        "SIGTTIN", "SIGTTOU", "SIGURG", "SIGXCPU", "SIGXFSZ", "SIGVTALRM", "SIGPROF", "SIGWINCH", "SIGIO", "SIGPWR",
        "SIGSYS",
    };
    static _Thread_local char number[24];
    if (sig >= 0 && (size_t)sig < COUNT(names)) return names[sig];
    if (sig >= SIGRTMIN) snprintf(number, sizeof number, "SIGRTMIN+%d", sig - SIGRTMIN);
    else snprintf(number, sizeof number, "signal %d", sig);
    return number;
}

// Print and flush: nothing is left in a buffer for a fork to copy or a death to lose.
__attribute__((format(printf, 1, 2))) UNUSED static void say(const char *format, ...) {
    va_list values;
    va_start(values, format);
    vprintf(format, values);
    va_end(values);
    fflush(stdout);
}

__attribute__((noreturn)) UNUSED static void check_failed(const char *file, int line, const char *what) {
    int error = errno;
    fflush(stdout);
    dprintf(2, "%s:%d: not so: %s (errno: %s)\n", file, line, what, errno_name(error));
    _exit(1);
}

// Whatever Linux guarantees is checked; a failure ends the whole process with status 1.
#define CHECK(condition)                                             \
    do {                                                             \
        if (!(condition)) check_failed(__FILE__, __LINE__, #condition); \
    } while (0)

// The call must fail with exactly this error.
#define CHECK_FAILS(call, error)                       \
    do {                                               \
        errno = 0;                                     \
        long check_result = (long)(call);              \
        CHECK(check_result == -1 && errno == (error)); \
    } while (0)

// pthread calls return their error.
#define CHECK_PTHREAD(call)          \
    do {                             \
        int check_error = (call);    \
        errno = check_error;         \
        CHECK(check_error == 0);     \
    } while (0)

// A gate between tasks, be they threads or processes: gate_wait returns after gate_open was called once per wait.
struct gate {
    int read_end, write_end;
};

UNUSED static struct gate gate_new(void) {
    int ends[2];
    CHECK(pipe2(ends, O_CLOEXEC) == 0);
    return (struct gate){ends[0], ends[1]};
}

// Async-signal-safe, so that a handler can open a gate.
UNUSED static void gate_open(struct gate gate) {
    int saved = errno;
    CHECK(write(gate.write_end, "g", 1) == 1);
    errno = saved;
}

UNUSED static void gate_wait(struct gate gate) {
    char byte;
    ssize_t got;
    while ((got = read(gate.read_end, &byte, 1)) == -1 && errno == EINTR) continue;
    CHECK(got == 1);
}

// Wait for one child and give its raw status word.
UNUSED static int status_of(pid_t pid) {
    int status;
    pid_t got;
    while ((got = waitpid(pid, &status, 0)) == -1 && errno == EINTR) continue;
    CHECK(got == pid);
    return status;
}

// A status word in words. The core bit is left out: whether a core is written is up to the limits of whoever runs us.
UNUSED static const char *status_text(int status) {
    static _Thread_local char text[64];
    if (WIFEXITED(status)) snprintf(text, sizeof text, "exited %d", WEXITSTATUS(status));
    else if (WIFSIGNALED(status)) snprintf(text, sizeof text, "killed by %s", signal_name(WTERMSIG(status)));
    else if (WIFSTOPPED(status)) snprintf(text, sizeof text, "stopped by %s", signal_name(WSTOPSIG(status)));
    else if (WIFCONTINUED(status)) snprintf(text, sizeof text, "continued");
    else snprintf(text, sizeof text, "status %#x", status);
    return text;
}

UNUSED static void sleep_ms(long ms) {
    struct timespec left = {ms / 1000, ms % 1000 * 1000000};
    while (nanosleep(&left, &left) == -1 && errno == EINTR) continue;
}

UNUSED static int64_t now_ns(clockid_t clock) {
    struct timespec now;
    CHECK(clock_gettime(clock, &now) == 0);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}
