// stdio is flushed by exit and by return from main, not by _exit, nor when a signal kills; output that was buffered
// at a fork comes twice.
// concept: 9 what the C library does on top
#include "check.h"

// What a child leaves in the pipe that is its standard output.
static void show(const char *label, void (*child)(void)) {
    int ends[2];
    char text[256];
    CHECK(pipe(ends) == 0);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        CHECK(dup2(ends[1], 1) == 1 && close(ends[0]) == 0 && close(ends[1]) == 0);
        setvbuf(stdout, NULL, _IOFBF, 4096);
        child();
        exit(0);
    }
    close(ends[1]);
    size_t length = 0;
    ssize_t got;
    while ((got = read(ends[0], text + length, sizeof text - 1 - length)) > 0) length += (size_t)got;
    text[length] = 0;
    close(ends[0]);
    int status = status_of(pid);
    say("%s: \"%s\", %s\n", label, text, status_text(status));
}

static void by_exit(void) { printf("buffered"); }
static void by__exit(void) {
    printf("buffered");
    _exit(0);
}
static void by_signal(void) {
    printf("buffered");
    raise(SIGKILL);
}
static void by_fork(void) {
    printf("before the fork; ");
    pid_t pid = fork();
    if (pid == 0) {
        printf("child; ");
        exit(0);
    }
    status_of(pid);
    printf("parent");
}
static void by_flush(void) {
    printf("flushed before the fork; ");
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        printf("child; ");
        exit(0);
    }
    status_of(pid);
    printf("parent");
}
static void by_line(void) {
    setvbuf(stdout, NULL, _IOLBF, 4096);
    printf("a line/\nhalf");
    _exit(0);
}

int main(void) {
    show("exit", by_exit);
    show("_exit", by__exit);
    show("SIGKILL", by_signal);
    show("fork with a full buffer", by_fork);
    show("fork after fflush", by_flush);
    show("line buffered, _exit", by_line);
    return 0;
}
