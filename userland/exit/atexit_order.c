// Handlers of atexit run in reverse order, at exit and at return from main, those registered meanwhile too; never at
// _exit, nor on a fatal signal, nor on exec.
// concept: 9 what the C library does on top
#include "check.h"

static void first(void) { say(" first"); }
static void second(void) { say(" second"); }
static void late(void) { say(" late"); }
static void registers(void) {
    say(" registers");
    CHECK(atexit(late) == 0);
}

// Several exits at once are not allowed, but exit in a handler is known to go on with the rest.
int main(void) {
    static const char *const names[] = {"return", "exit", "_exit", "_Exit", "exit_group", "exit in a thread", "SIGTERM",
                                        "exit(2) of the only thread"};
    for (size_t way = 0; way < COUNT(names); way++) {
        say("%s:", names[way]);
        pid_t pid = fork();
        CHECK(pid >= 0);
        if (pid > 0) {
            int status = status_of(pid);
            say(" %s\n", status_text(status));
            continue;
        }
        CHECK(atexit(first) == 0 && atexit(second) == 0 && atexit(registers) == 0 && atexit(second) == 0);
        if (way == 0) return 10;
        if (way == 1) exit(11);
        if (way == 2) _exit(12);
        if (way == 3) _Exit(13);
        if (way == 4) syscall(SYS_exit_group, 14);
        if (way == 5) {
            pthread_t thread;
            CHECK_PTHREAD(pthread_create(&thread, NULL, (void *(*)(void *))(uintptr_t)exit, (void *)15));
            for (;;) pause();
        }
        if (way == 6) raise(SIGTERM);
        if (way == 7) syscall(SYS_exit, 17);
    }
    return 0;
}
