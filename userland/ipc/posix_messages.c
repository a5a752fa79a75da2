// POSIX message queues: highest priority first, time limits, poll, what a signal tells of the first message, the
// attributes, and a queue that outlives its name.
// qemu: no (it has no mq_notify)
#include "check.h"
#include <mqueue.h>
#include <poll.h>

static int pending_signal(siginfo_t *info) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    return sigtimedwait(&set, info, &(struct timespec){0, 0});
}

int main(void) {
    char name[64], buffer[64];
    snprintf(name, sizeof name, "/minikern-test-%d", getpid());
    struct mq_attr attr = {.mq_maxmsg = 3, .mq_msgsize = 32}, now;
    CHECK_FAILS(mq_open(name, O_RDWR), ENOENT);
    mqd_t queue = mq_open(name, O_RDWR | O_CREAT | O_EXCL, 0600, &attr);
    CHECK(queue != (mqd_t)-1 && fcntl(queue, F_GETFD) == FD_CLOEXEC);
    CHECK_FAILS(mq_open(name, O_RDWR | O_CREAT | O_EXCL, 0600, &attr), EEXIST);
    CHECK(mq_getattr(queue, &now) == 0 && now.mq_maxmsg == 3 && now.mq_msgsize == 32 && now.mq_curmsgs == 0);

    struct pollfd poller = {queue, POLLIN | POLLOUT, 0};
    CHECK(poll(&poller, 1, 0) == 1 && poller.revents == POLLOUT);
    CHECK(mq_send(queue, "low", 3, 1) == 0 && mq_send(queue, "high", 4, 9) == 0 && mq_send(queue, "low2", 4, 1) == 0);
    CHECK(poll(&poller, 1, 0) == 1 && poller.revents == POLLIN);
    struct timespec soon;
    CHECK(clock_gettime(CLOCK_REALTIME, &soon) == 0);
    soon.tv_nsec += 30000000;
    if (soon.tv_nsec >= 1000000000) soon.tv_sec++, soon.tv_nsec -= 1000000000;
    CHECK_FAILS(mq_timedsend(queue, "full", 4, 0, &soon), ETIMEDOUT);
    for (int i = 0; i < 3; i++) {
        unsigned priority;
        ssize_t got = mq_receive(queue, buffer, sizeof buffer, &priority);
        CHECK(got > 0);
        say("%.*s %u\n", (int)got, buffer, priority);
    }
    CHECK_FAILS(mq_timedreceive(queue, buffer, sizeof buffer, NULL, &soon), ETIMEDOUT);
    CHECK_FAILS(mq_receive(queue, buffer, 31, NULL), EMSGSIZE);
    CHECK_FAILS(mq_send(queue, buffer, 33, 0), EMSGSIZE);
    CHECK_FAILS(mq_send(queue, buffer, 1, 32768), EINVAL);

    // A receiver that waits, and a sender that waits.
    pid_t pid = fork();
    if (pid == 0) _exit(mq_receive(queue, buffer, sizeof buffer, NULL) == 4 && memcmp(buffer, "wait", 4) == 0 ? 0 : 1);
    sleep_ms(30);
    CHECK(mq_send(queue, "wait", 4, 0) == 0 && status_of(pid) == 0);
    for (int i = 0; i < 3; i++) CHECK(mq_send(queue, "x", 1, 0) == 0);
    pid = fork();
    if (pid == 0) _exit(mq_send(queue, "urgent", 6, 5));
    sleep_ms(30);
    CHECK(mq_receive(queue, buffer, sizeof buffer, NULL) == 1 && status_of(pid) == 0);
    CHECK(mq_receive(queue, buffer, sizeof buffer, NULL) == 6);
    CHECK(mq_receive(queue, buffer, sizeof buffer, NULL) == 1 && mq_receive(queue, buffer, sizeof buffer, NULL) == 1);
    say("waiting\n");

    // Notification: once, for the first message of an empty queue.
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    CHECK(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1, .sigev_value.sival_int = 12};
    CHECK(mq_notify(queue, &event) == 0);
    CHECK_FAILS(mq_notify(queue, &event), EBUSY);
    pid = fork();
    if (pid == 0) _exit(mq_send(queue, "a", 1, 0) || mq_send(queue, "b", 1, 0));
    CHECK(status_of(pid) == 0);
    siginfo_t info;
    CHECK(pending_signal(&info) == SIGUSR1 && info.si_code == SI_MESGQ && info.si_value.sival_int == 12);
    CHECK(info.si_pid == pid && info.si_uid == getuid());
    CHECK_FAILS(pending_signal(&info), EAGAIN);
    CHECK(mq_notify(queue, &event) == 0 && mq_notify(queue, NULL) == 0);
    say("notified\n");

    struct mq_attr nonblock = {.mq_flags = O_NONBLOCK};
    CHECK(mq_setattr(queue, &nonblock, &now) == 0 && now.mq_flags == 0 && now.mq_curmsgs == 2);
    CHECK(mq_receive(queue, buffer, sizeof buffer, NULL) == 1 && mq_receive(queue, buffer, sizeof buffer, NULL) == 1);
    CHECK_FAILS(mq_receive(queue, buffer, sizeof buffer, NULL), EAGAIN);

    CHECK(mq_unlink(name) == 0);
    CHECK_FAILS(mq_unlink(name), ENOENT);
    CHECK(mq_send(queue, "still", 5, 0) == 0);
    CHECK(mq_close(queue) == 0);
    CHECK_FAILS(mq_send(queue, "gone", 4, 0), EBADF);
    CHECK_FAILS(mq_open("/a/b", O_RDWR | O_CREAT, 0600, &attr), EACCES);
    attr.mq_maxmsg = 0;
    CHECK_FAILS(mq_open(name, O_RDWR | O_CREAT, 0600, &attr), EINVAL);
    say("names\n");
    return 0;
}
