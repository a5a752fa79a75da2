// abort ends by SIGABRT even when that is ignored or blocked, or its handler returns; no atexit handler runs.
// concept: 9 what the C library does on top
#include "check.h"

static void at_exit(void) { write(1, "atexit handler\n", 15); }
static void handler(int sig) {
    (void)sig;
    write(1, "SIGABRT handler\n", 16);
}

int main(void) {
    static const char *const names[] = {"default", "ignored", "blocked", "handler returns"};
    for (int way = 0; way < 4; way++) {
        pid_t pid = fork();
        CHECK(pid >= 0);
        if (pid == 0) {
            struct rlimit none = {0, 0};
            setrlimit(RLIMIT_CORE, &none);
            CHECK(atexit(at_exit) == 0);
            sigset_t set;
            sigemptyset(&set);
            sigaddset(&set, SIGABRT);
            if (way == 1) signal(SIGABRT, SIG_IGN);
            if (way == 2) sigprocmask(SIG_BLOCK, &set, NULL);
            if (way == 3) signal(SIGABRT, handler);
            abort();
        }
        say("%s: %s\n", names[way], status_text(status_of(pid)));
    }
    return 0;
}
