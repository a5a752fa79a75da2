// A pidfd names one process for ever: readable at its end, good for signals and for waitid, made by pidfd_open or by
// clone with CLONE_PIDFD. It is close-on-exec. A dead one says ESRCH, also when the number is used again.
// concept: 5 wait4, waitid, waitpid
// qemu: no (it has no CLONE_PIDFD)
#include "check.h"
#include <poll.h>

#ifndef P_PIDFD
#define P_PIDFD 3
#endif
#define CLONE_PIDFD_FLAG 0x1000

static int pidfd_open(pid_t pid, unsigned flags) { return (int)syscall(SYS_pidfd_open, pid, flags); }
static int pidfd_send_signal(int fd, int sig) { return (int)syscall(SYS_pidfd_send_signal, fd, sig, NULL, 0); }
static short readable(int fd, int timeout_ms) {
    struct pollfd asked = {fd, POLLIN, 0};
    return poll(&asked, 1, timeout_ms) == 1 ? asked.revents : 0;
}

int main(void) {
    struct gate go = gate_new();
    siginfo_t info;
    pid_t pid = fork();
    if (pid == 0) {
        gate_wait(go);
        _exit(44);
    }
    int fd = pidfd_open(pid, 0);
    CHECK(fd >= 0 && fcntl(fd, F_GETFD) == FD_CLOEXEC);
    CHECK(readable(fd, 0) == 0 && pidfd_send_signal(fd, 0) == 0);
    CHECK(waitid((idtype_t)P_PIDFD, (id_t)fd, &info, WEXITED | WNOHANG) == 0 && info.si_pid == 0);
    gate_open(go);
    CHECK(readable(fd, -1) & POLLIN);
    CHECK(waitid((idtype_t)P_PIDFD, (id_t)fd, &info, WEXITED | WNOWAIT) == 0 && info.si_pid == pid);
    CHECK(waitid((idtype_t)P_PIDFD, (id_t)fd, &info, WEXITED) == 0 && info.si_status == 44);
    CHECK_FAILS(waitid((idtype_t)P_PIDFD, (id_t)fd, &info, WEXITED), ECHILD);
    CHECK_FAILS(pidfd_send_signal(fd, 0), ESRCH);
    CHECK(readable(fd, 0) & POLLIN);
    CHECK(close(fd) == 0);
    say("pidfd_open: end seen, waited for\n");

    fd = -1;
    pid = (pid_t)syscall(SYS_clone, CLONE_PIDFD_FLAG | SIGCHLD, 0, &fd, 0, 0);
    if (pid == 0)
        for (;;) pause();
    CHECK(fd >= 0 && fcntl(fd, F_GETFD) == FD_CLOEXEC);
    CHECK(pidfd_send_signal(fd, SIGTERM) == 0);
    CHECK(waitid((idtype_t)P_PIDFD, (id_t)fd, &info, WEXITED) == 0);
    CHECK(info.si_pid == pid && info.si_code == CLD_KILLED && info.si_status == SIGTERM);
    say("CLONE_PIDFD: signalled, waited for\n");

    // A non-blocking one.
    pid = fork();
    if (pid == 0)
        for (;;) pause();
    int quick = pidfd_open(pid, O_NONBLOCK);
    CHECK(quick >= 0);
    CHECK_FAILS(waitid((idtype_t)P_PIDFD, (id_t)quick, &info, WEXITED), EAGAIN);
    CHECK(kill(pid, SIGKILL) == 0 && readable(quick, -1));
    CHECK(waitid((idtype_t)P_PIDFD, (id_t)quick, &info, WEXITED) == 0 && info.si_status == SIGKILL);

    CHECK_FAILS(pidfd_open(pid, 0), ESRCH);
    CHECK_FAILS(pidfd_open(0, 0), EINVAL);
    CHECK_FAILS(pidfd_open(-1, 0), EINVAL);
    CHECK_FAILS(pidfd_open(getpid(), 12345), EINVAL);
    CHECK_FAILS(pidfd_send_signal(0, SIGTERM), EBADF);
    CHECK_FAILS(waitid((idtype_t)P_PIDFD, (id_t)go.read_end, &info, WEXITED), EBADF);
    return 0;
}
