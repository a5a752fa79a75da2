// A wait with a time that is interrupted without any handler (by a stop and a continue) goes on with the rest of its
// time, and its caller never knows: restart_syscall. The clock decides: not shorter, and the result is as undisturbed.
// concept: 6 signals
#include "check.h"
#include <linux/futex.h>
#include <poll.h>

static const int64_t wanted_ms = 300;

static void sleeper(int kind) {
    struct timespec time = {0, wanted_ms * 1000000};
    uint32_t word = 0;
    int64_t start = now_ns(CLOCK_MONOTONIC);
    if (kind == 0) {
        CHECK(nanosleep(&time, NULL) == 0);
    } else if (kind == 1) {
        CHECK(poll(NULL, 0, (int)wanted_ms) == 0);
    } else if (kind == 2) {
        CHECK_FAILS(syscall(SYS_futex, &word, FUTEX_WAIT, 0, &time, NULL, 0), ETIMEDOUT);
    } else {
        CHECK(clock_nanosleep(CLOCK_MONOTONIC, 0, &time, NULL) == 0);
    }
    CHECK(now_ns(CLOCK_MONOTONIC) - start >= wanted_ms * 1000000);
    _exit(0);
}

int main(void) {
    static const char *const names[] = {"nanosleep", "poll", "futex", "clock_nanosleep"};
    for (int kind = 0; kind < 4; kind++) {
        pid_t pid = fork();
        CHECK(pid >= 0);
        if (pid == 0) sleeper(kind);
        int status;
        for (int i = 0; i < 2; i++) {
            sleep_ms(40);
            CHECK(kill(pid, SIGSTOP) == 0);
            CHECK(waitpid(pid, &status, WUNTRACED) == pid);
            if (WIFEXITED(status)) break;
            CHECK(WIFSTOPPED(status) && kill(pid, SIGCONT) == 0);
        }
        if (!WIFEXITED(status)) status = status_of(pid);
        say("%s: %s\n", names[kind], status_text(status));
        CHECK(status == 0);
    }
    return 0;
}
