// A device whose driver implements flush learns of every death of a process that has it open, however it comes, once;
// an exec with close-on-exec counts as closing only.
// concept: 7 files at death
// native: no (/dev/deathwatch is a device of minikern)
#include "thread.h"

static void *ends(void *unused) {
    syscall(SYS_exit_group, 9);
    return unused;
}

static void die(int way) {
    if (way == 0) _exit(3);
    if (way == 1) kill(getpid(), SIGTERM);
    if (way == 2) kill(getpid(), SIGKILL);
    if (way == 3) *(volatile char *)bad_address = 1;
    if (way == 4) {
        start_thread(ends, NULL);
        for (;;) pause();
    }
    exit(0);
}

int main(void) {
    static const char *const names[] = {"_exit", "SIGTERM", "SIGKILL", "SIGSEGV", "thread", "exit"};
    struct rlimit none = {0, 0};
    setrlimit(RLIMIT_CORE, &none);
    int watch = open("/dev/deathwatch", O_RDONLY | O_CLOEXEC);
    CHECK(watch >= 0);
    for (int way = 0; way < 6; way++) {
        pid_t pid = fork();
        CHECK(pid >= 0);
        if (pid == 0) {
            // Two descriptors of one process are one death.
            CHECK(open("/dev/deathwatch", O_RDONLY) >= 0 && open("/dev/deathwatch", O_RDONLY) >= 0);
            die(way);
        }
        status_of(pid);
        char line[128], comm[32], how[16];
        ssize_t length = read(watch, line, sizeof line - 1);
        CHECK(length > 0);
        line[length] = 0;
        int dead, code;
        CHECK(sscanf(line, "%d %31s %15s %d", &dead, comm, how, &code) == 4 && dead == pid);
        say("%s: %s %s %d\n", names[way], comm, how, code);
    }
    CHECK(fcntl(watch, F_SETFL, O_NONBLOCK) == 0);
    CHECK_FAILS(read(watch, &(char){0}, 1), EAGAIN);
    return 0;
}
