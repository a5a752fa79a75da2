// eventfd counts; epoll tells of readiness, level and edge triggered and once; a closed descriptor leaves the set.
#include "check.h"
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

static int epoll_fd;

// What is ready now, as text: data and events.
static const char *ready(int timeout_ms) {
    static char text[128];
    struct epoll_event events[8];
    int count = epoll_wait(epoll_fd, events, 8, timeout_ms);
    CHECK(count >= 0);
    text[0] = 0;
    for (int i = 0; i < count; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text), " %c:%s%s%s%s", (char)events[i].data.u32,
                 events[i].events & EPOLLIN ? "in" : "", events[i].events & EPOLLOUT ? "out" : "",
                 events[i].events & EPOLLHUP ? "hup" : "", events[i].events & EPOLLERR ? "err" : "");
    return count ? text : " nothing";
}

static int control(int operation, int fd, uint32_t events, char name) {
    struct epoll_event event = {.events = events, .data.u32 = (uint32_t)name};
    return epoll_ctl(epoll_fd, operation, fd, &event);
}

int main(void) {
    uint64_t value;
    int counter = eventfd(3, EFD_NONBLOCK), semaphore = eventfd(2, EFD_SEMAPHORE | EFD_NONBLOCK);
    CHECK(counter >= 0 && semaphore >= 0);
    CHECK(eventfd_write(counter, 4) == 0 && eventfd_read(counter, &value) == 0 && value == 7);
    CHECK_FAILS(eventfd_read(counter, &value), EAGAIN);
    CHECK(eventfd_read(semaphore, &value) == 0 && value == 1 && eventfd_read(semaphore, &value) == 0 && value == 1);
    CHECK_FAILS(eventfd_read(semaphore, &value), EAGAIN);
    CHECK_FAILS(write(counter, "short", 5), EINVAL);
    CHECK(eventfd_write(counter, UINT64_MAX - 1) == 0);
    CHECK_FAILS(eventfd_write(counter, 1), EAGAIN);
    CHECK_FAILS(eventfd_write(counter, UINT64_MAX), EINVAL);
    CHECK(eventfd_read(counter, &value) == 0 && value == UINT64_MAX - 1);

    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    int ends[2];
    CHECK(epoll_fd >= 0 && pipe(ends) == 0);
    CHECK(control(EPOLL_CTL_ADD, counter, EPOLLIN, 'c') == 0 && control(EPOLL_CTL_ADD, ends[0], EPOLLIN, 'p') == 0);
    CHECK_FAILS(control(EPOLL_CTL_ADD, counter, EPOLLIN, 'x'), EEXIST);
    CHECK_FAILS(control(EPOLL_CTL_MOD, ends[1], EPOLLIN, 'x'), ENOENT);
    CHECK_FAILS(control(EPOLL_CTL_ADD, epoll_fd, EPOLLIN, 'x'), EINVAL);
    CHECK_FAILS(control(EPOLL_CTL_ADD, 99, EPOLLIN, 'x'), EBADF);
    int file = open("/dev/null", O_RDONLY), directory = open("/", O_RDONLY);
    CHECK_FAILS(control(EPOLL_CTL_ADD, directory, EPOLLIN, 'x'), EPERM);
    CHECK(close(file) == 0 && close(directory) == 0);
    say("at first:%s\n", ready(0));
    CHECK(write(ends[1], "abc", 3) == 3);
    say("level triggered:%s\n", ready(0));
    say("again:%s\n", ready(0));
    CHECK(control(EPOLL_CTL_MOD, ends[0], EPOLLIN | EPOLLET, 'e') == 0);
    say("edge triggered:%s\n", ready(0));
    say("again:%s\n", ready(0));
    CHECK(write(ends[1], "d", 1) == 1);
    say("after a write:%s\n", ready(0));
    CHECK(control(EPOLL_CTL_MOD, ends[0], EPOLLIN | EPOLLONESHOT, 'o') == 0);
    say("once:%s\n", ready(0));
    say("again:%s\n", ready(0));
    CHECK(control(EPOLL_CTL_MOD, ends[0], EPOLLIN, 'p') == 0);
    CHECK(eventfd_write(counter, 1) == 0);
    CHECK(read(ends[0], &(char[8]){0}, 8) == 4);
    say("the counter:%s\n", ready(0));
    CHECK(close(ends[1]) == 0 && eventfd_read(counter, &value) == 0);
    say("the writer is gone:%s\n", ready(0));
    CHECK(close(ends[0]) == 0);
    say("closed:%s\n", ready(0));

    // Asleep until a child writes; an epoll descriptor is itself pollable.
    pid_t pid = fork();
    if (pid == 0) {
        sleep_ms(20);
        CHECK(eventfd_write(counter, 1) == 0);
        _exit(0);
    }
    CHECK(poll(&(struct pollfd){epoll_fd, POLLIN, 0}, 1, -1) == 1);
    say("woken:%s\n", ready(-1));
    CHECK(status_of(pid) == 0);
    CHECK(control(EPOLL_CTL_DEL, counter, 0, 0) == 0);
    say("removed:%s\n", ready(20));
    return 0;
}
