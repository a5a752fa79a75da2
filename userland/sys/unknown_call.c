// A system call that does not exist is ENOSYS; arguments out of range are what the call says, never a crash.
// qemu: no (its errors come before those of the call)
#include "check.h"

int main(void) {
    CHECK_FAILS(syscall(1000), ENOSYS);
    CHECK_FAILS(syscall(-1), ENOSYS);
    CHECK_FAILS(syscall(0x7fffffff), ENOSYS);
    CHECK_FAILS(syscall(SYS_write, 1, bad_address, 10), EFAULT);
    CHECK_FAILS(syscall(SYS_write, 1, -1L, 10), EFAULT);
    CHECK_FAILS(syscall(SYS_write, 1, 0xffff800000000000, 10), EFAULT);
    CHECK_FAILS(syscall(SYS_openat, AT_FDCWD, bad_address, 0), EFAULT);
    CHECK_FAILS(syscall(SYS_read, -1, bad_address, 10), EBADF);
    CHECK_FAILS(syscall(SYS_rt_sigaction, SIGUSR1, bad_address, NULL, 8), EFAULT);
    CHECK_FAILS(syscall(SYS_rt_sigaction, SIGUSR1, NULL, NULL, 9), EINVAL);
    CHECK_FAILS(syscall(SYS_rt_sigprocmask, SIG_BLOCK, NULL, NULL, 4), EINVAL);
    CHECK_FAILS(syscall(SYS_wait4, -1, bad_address, 0, NULL), ECHILD);
    CHECK_FAILS(syscall(SYS_clock_gettime, CLOCK_MONOTONIC, bad_address), EFAULT);
    CHECK_FAILS(syscall(SYS_pipe2, bad_address, 0), EFAULT);
    // Only the low 32 bits count where the argument is an int.
    int fd = dup(1);
    CHECK(syscall(SYS_close, 0x100000000L | fd) == 0);
    CHECK_FAILS(syscall(SYS_close, fd), EBADF);
    say("as it should be\n");
    return 0;
}
