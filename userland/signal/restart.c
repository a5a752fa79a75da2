// Which calls go on after a handler: reads, waits, locks and futexes when SA_RESTART is set; sleeps, polls and
// semaphores never; pause and sigsuspend never. After three ticks of the timer the thing waited for happens.
// concept: 6 signals
#include "check.h"
#include <linux/futex.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/select.h>
#include <sys/socket.h>

static volatile sig_atomic_t ticks;
static int data[2], sockets[2];
static uint32_t word;
static pid_t child;

// The third tick makes every wait of ours succeed.
static void tick(int sig) {
    (void)sig;
    if (++ticks != 3) return;
    CHECK(write(data[1], "d", 1) == 1 && write(sockets[1], "s", 1) == 1);
    word = 1;
    syscall(SYS_futex, &word, FUTEX_WAKE, 1, NULL, NULL, 0);
    if (child) kill(child, SIGKILL);
}

static char byte;
static long do_read(void) { return read(data[0], &byte, 1); }
static long do_recv(void) { return recv(sockets[0], &byte, 1, 0); }
static long do_wait4(void) { return waitpid(child, NULL, 0) == child ? 0 : -1; }
static long do_waitid(void) { return waitid(P_PID, child, &(siginfo_t){0}, WEXITED); }
// A futex wait that is started again finds the word changed by the third tick: EAGAIN.
static long futex_wait(const struct timespec *timeout) {
    long result = syscall(SYS_futex, &word, FUTEX_WAIT, 0, timeout, NULL, 0);
    return result == -1 && errno == EAGAIN ? 0 : result;
}
static long do_futex(void) { return futex_wait(NULL); }
static long do_futex_time(void) { return futex_wait(&(struct timespec){30, 0}); }
static long do_nanosleep(void) { return nanosleep(&(struct timespec){30, 0}, NULL); }
static long do_clock_nanosleep(void) {
    int error = clock_nanosleep(CLOCK_MONOTONIC, 0, &(struct timespec){30, 0}, NULL);
    errno = error;
    return error ? -1 : 0;
}
static long do_poll(void) { return poll(&(struct pollfd){data[0], POLLIN, 0}, 1, -1); }
static long do_ppoll(void) { return ppoll(&(struct pollfd){data[0], POLLIN, 0}, 1, NULL, NULL); }
static long do_select(void) {
    fd_set set;
    FD_ZERO(&set);
    FD_SET(data[0], &set);
    return select(data[0] + 1, &set, NULL, NULL, NULL);
}
static long do_epoll(void) {
    int fd = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN};
    CHECK(epoll_ctl(fd, EPOLL_CTL_ADD, data[0], &event) == 0);
    long result = epoll_wait(fd, &event, 1, -1);
    int error = errno;
    close(fd);
    errno = error;
    return result;
}
static long do_pause(void) { return pause(); }
static long do_sigsuspend(void) {
    sigset_t none;
    sigemptyset(&none);
    return sigsuspend(&none);
}

int main(void) {
    static const struct {
        const char *name;
        long (*call)(void);
    } calls[] = {
        {"read", do_read}, {"recv", do_recv}, {"wait4", do_wait4}, {"waitid", do_waitid}, {"futex", do_futex},
        {"futex with timeout", do_futex_time}, {"nanosleep", do_nanosleep}, {"clock_nanosleep", do_clock_nanosleep},
        {"poll", do_poll}, {"ppoll", do_ppoll}, {"select", do_select}, {"epoll_wait", do_epoll}, {"pause", do_pause},
        {"sigsuspend", do_sigsuspend},
    };
    for (size_t i = 0; i < COUNT(calls); i++)
        for (int restart = 0; restart < 2; restart++) {
            CHECK(pipe(data) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, sockets) == 0);
            ticks = 0, word = 0;
            child = fork();
            CHECK(child >= 0);
            if (child == 0)
                for (;;) pause();
            struct sigaction action = {.sa_handler = tick, .sa_flags = restart ? SA_RESTART : 0};
            struct itimerval every = {{0, 30000}, {0, 30000}}, off = {{0, 0}, {0, 0}};
            CHECK(sigaction(SIGALRM, &action, NULL) == 0 && setitimer(ITIMER_REAL, &every, NULL) == 0);
            long result = calls[i].call();
            int error = errno;
            CHECK(setitimer(ITIMER_REAL, &off, NULL) == 0);
            CHECK((ticks >= 3) == (result >= 0));
            say("%s%s: %s\n", calls[i].name, restart ? " with SA_RESTART" : "",
                result >= 0 ? "goes on" : errno_name(error));
            kill(child, SIGKILL);
            waitpid(child, NULL, 0);
            for (int end = 0; end < 2; end++) close(data[end]), close(sockets[end]);
        }
    return 0;
}
