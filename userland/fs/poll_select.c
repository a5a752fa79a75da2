// poll and select: what is ready, hang-up and error, bad descriptors, time-outs; asleep until another process acts.
#include "check.h"
#include <poll.h>
#include <sys/select.h>

static const char *events_text(short events) {
    static char text[64];
    snprintf(text, sizeof text, "%s%s%s%s%s%s", events & POLLIN ? " IN" : "", events & POLLOUT ? " OUT" : "",
             events & POLLERR ? " ERR" : "", events & POLLHUP ? " HUP" : "", events & POLLNVAL ? " NVAL" : "",
             events ? "" : " -");
    return text;
}

static void ask(const char *label, int fd) {
    struct pollfd asked = {fd, POLLIN | POLLOUT, 0};
    int result = poll(&asked, 1, 0);
    CHECK(result == (asked.revents != 0));
    say("%s:%s\n", label, events_text(asked.revents));
}

int main(void) {
    int ends[2];
    CHECK(pipe(ends) == 0);
    ask("empty pipe, read end", ends[0]);
    ask("empty pipe, write end", ends[1]);
    CHECK(write(ends[1], "x", 1) == 1);
    ask("pipe with data, read end", ends[0]);
    close(ends[1]);
    ask("and without writer", ends[0]);
    CHECK(read(ends[0], &(char){0}, 1) == 1);
    ask("and without data", ends[0]);
    close(ends[0]);
    CHECK(pipe(ends) == 0);
    close(ends[0]);
    ask("without reader, write end", ends[1]);
    close(ends[1]);
    ask("closed descriptor", 99);
    ask("negative descriptor", -1);
    int null = open("/dev/null", O_RDWR);
    ask("/dev/null", null);

    CHECK(pipe(ends) == 0);
    int64_t start = now_ns(CLOCK_MONOTONIC);
    CHECK(poll(&(struct pollfd){ends[0], POLLIN, 0}, 1, 30) == 0);
    CHECK(now_ns(CLOCK_MONOTONIC) - start >= 30000000);
    fd_set set;
    FD_ZERO(&set);
    FD_SET(ends[0], &set);
    struct timeval time = {0, 30000};
    start = now_ns(CLOCK_MONOTONIC);
    CHECK(select(ends[0] + 1, &set, NULL, NULL, &time) == 0 && !FD_ISSET(ends[0], &set));
    CHECK(now_ns(CLOCK_MONOTONIC) - start >= 30000000);
    CHECK(dup2(ends[0], 99) == 99 && close(99) == 0);  // numbers beyond the table are not looked at: make it larger
    FD_ZERO(&set);
    FD_SET(99, &set);
    CHECK_FAILS(select(100, &set, NULL, NULL, &time), EBADF);
    CHECK_FAILS(select(-1, NULL, NULL, NULL, &time), EINVAL);

    pid_t pid = fork();
    if (pid == 0) {
        sleep_ms(20);
        CHECK(write(ends[1], "y", 1) == 1);
        _exit(0);
    }
    fd_set writable;
    FD_ZERO(&set);
    FD_ZERO(&writable);
    FD_SET(ends[0], &set);
    CHECK(select(ends[0] + 1, &set, &writable, NULL, NULL) == 1 && FD_ISSET(ends[0], &set));
    CHECK(status_of(pid) == 0);
    FD_SET(ends[1], &writable);
    CHECK(select(ends[1] + 1, &set, &writable, NULL, NULL) == 2);
    say("select woken by a child\n");
    return 0;
}
