// timerfd counts expirations, once and repeated, relative and absolute; signalfd reads blocked signals with all that
// siginfo says.
#include "check.h"
#include <poll.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>

int main(void) {
    uint64_t count;
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    CHECK(timer >= 0);
    CHECK_FAILS(read(timer, &count, sizeof count), EAGAIN);
    struct itimerspec now, spec = {{0, 0}, {0, 20000000}};
    CHECK(timerfd_settime(timer, 0, &spec, NULL) == 0);
    CHECK(timerfd_gettime(timer, &now) == 0 && now.it_value.tv_sec == 0 && now.it_value.tv_nsec <= 20000000);
    CHECK(poll(&(struct pollfd){timer, POLLIN, 0}, 1, -1) == 1);
    CHECK(read(timer, &count, sizeof count) == sizeof count && count == 1);
    CHECK_FAILS(read(timer, &count, sizeof count), EAGAIN);
    CHECK_FAILS(read(timer, &count, 4), EINVAL);
    CHECK(timerfd_gettime(timer, &now) == 0 && now.it_value.tv_nsec == 0);

    // Repeated: what was missed is counted.
    spec = (struct itimerspec){{0, 5000000}, {0, 5000000}};
    int64_t start = now_ns(CLOCK_MONOTONIC);
    CHECK(timerfd_settime(timer, 0, &spec, NULL) == 0);
    sleep_ms(40);
    CHECK(read(timer, &count, sizeof count) == sizeof count);
    CHECK(count >= 8 && (int64_t)count <= (now_ns(CLOCK_MONOTONIC) - start) / 5000000);
    spec = (struct itimerspec){{0, 0}, {0, 0}};
    CHECK(timerfd_settime(timer, 0, &spec, &now) == 0 && now.it_interval.tv_nsec == 5000000);

    // An absolute time in the past expires at once.
    spec.it_value.tv_nsec = 1;
    CHECK(timerfd_settime(timer, TFD_TIMER_ABSTIME, &spec, NULL) == 0);
    CHECK(poll(&(struct pollfd){timer, POLLIN, 0}, 1, -1) == 1 && read(timer, &count, 8) == 8 && count == 1);
    CHECK_FAILS(timerfd_create(77, 0), EINVAL);
    CHECK_FAILS(timerfd_settime(0, 0, &spec, NULL), EINVAL);
    say("timerfd counts\n");

    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGCHLD);
    sigaddset(&set, SIGRTMIN);
    CHECK(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
    int fd = signalfd(-1, &set, SFD_NONBLOCK);
    struct signalfd_siginfo info[4];
    CHECK_FAILS(read(fd, info, sizeof info), EAGAIN);
    CHECK_FAILS(read(fd, info, 100), EINVAL);
    union sigval value = {.sival_int = 5};
    for (int i = 0; i < 3; i++) {
        value.sival_int = i;
        CHECK(sigqueue(getpid(), SIGRTMIN, value) == 0);
    }
    CHECK(kill(getpid(), SIGUSR1) == 0);
    CHECK(poll(&(struct pollfd){fd, POLLIN, 0}, 1, -1) == 1);
    CHECK(read(fd, info, sizeof info) == sizeof info);
    CHECK(info[0].ssi_signo == SIGUSR1 && info[0].ssi_code == SI_USER && info[0].ssi_pid == (uint32_t)getpid());
    for (int i = 1; i < 4; i++) CHECK((int)info[i].ssi_signo == SIGRTMIN && info[i].ssi_int == i - 1);
    pid_t pid = fork();
    if (pid == 0) _exit(6);
    CHECK(poll(&(struct pollfd){fd, POLLIN, 0}, 1, -1) == 1 && read(fd, info, sizeof info) == sizeof *info);
    CHECK(info[0].ssi_signo == SIGCHLD && info[0].ssi_code == CLD_EXITED && info[0].ssi_status == 6);
    CHECK(info[0].ssi_pid == (uint32_t)pid && status_of(pid) == 6 << 8);

    // The set can be changed afterwards.
    sigdelset(&set, SIGUSR1);
    CHECK(signalfd(fd, &set, 0) == fd && kill(getpid(), SIGUSR1) == 0);
    CHECK_FAILS(read(fd, info, sizeof info), EAGAIN);
    CHECK_FAILS(signalfd(0, &set, 0), EINVAL);
    say("signalfd reads\n");
    return 0;
}
