// on_exit handlers get the status and their argument, and share one reverse order with those of atexit.
// concept: 9 what the C library does on top
// libc: glibc
// run: => 21
#include "check.h"

static void with_status(int status, void *argument) { say("on_exit: status %d, %s\n", status, (char *)argument); }
static void plain(void) { say("atexit\n"); }

int main(void) {
    CHECK(on_exit(with_status, "first registered") == 0);
    CHECK(atexit(plain) == 0);
    CHECK(on_exit(with_status, "last registered") == 0);
    return 21;
}
