// Thread names by prctl and in /proc, the other small prctls, personality.
// qemu: no (its /proc is the host's)
#include "proc.h"
#include "thread.h"
#include <sys/personality.h>
#include <sys/prctl.h>

static void *renames(void *unused) {
    char name[16];
    CHECK(prctl(PR_SET_NAME, "a name that is too long") == 0 && prctl(PR_GET_NAME, name) == 0);
    say("thread: %s\n", name);
    char path[64], text[32] = "";
    snprintf(path, sizeof path, "/proc/self/task/%d/comm", gettid());
    int fd = open(path, O_RDONLY);
    CHECK(fd >= 0 && read(fd, text, sizeof text - 1) > 0 && close(fd) == 0);
    say("its comm: %s", text);
    return unused;
}

int main(void) {
    char name[16];
    CHECK(prctl(PR_GET_NAME, name) == 0);
    say("at first: %s\n", name);
    CHECK(prctl(PR_SET_NAME, "renamed") == 0);
    CHECK_PTHREAD(pthread_join(start_thread(renames, NULL), NULL));
    say("main: %s\n", status_field(getpid(), "Name"));
    pid_t pid = fork();
    if (pid == 0) {
        CHECK(prctl(PR_GET_NAME, name) == 0);
        say("child: %s\n", name);
        _exit(0);
    }
    CHECK(status_of(pid) == 0);

    CHECK(prctl(PR_GET_DUMPABLE) == 1 && prctl(PR_SET_DUMPABLE, 0) == 0 && prctl(PR_GET_DUMPABLE) == 0);
    CHECK_FAILS(prctl(PR_SET_DUMPABLE, 7), EINVAL);
    CHECK(prctl(PR_SET_DUMPABLE, 1) == 0);
    CHECK(prctl(PR_GET_KEEPCAPS) == 0 && prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 0);
    CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1);
    CHECK_FAILS(prctl(PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0), EINVAL);
    CHECK(prctl(PR_SET_TIMERSLACK, 60000) == 0 && prctl(PR_GET_TIMERSLACK) == 60000);
    CHECK_FAILS(prctl(123456), EINVAL);
    CHECK(personality(0xffffffff) == 0);
    return 0;
}
