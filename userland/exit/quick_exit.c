// quick_exit runs the handlers of at_quick_exit only, and flushes nothing.
// concept: 9 what the C library does on top
// run: => 5
#include "check.h"

static void quick(void) { write(1, "quick handler\n", 14); }
static void earlier(void) { write(1, "quick handler registered earlier\n", 33); }
static void slow(void) { write(1, "atexit handler\n", 15); }

int main(void) {
    CHECK(atexit(slow) == 0 && at_quick_exit(earlier) == 0 && at_quick_exit(quick) == 0);
    setvbuf(stdout, NULL, _IOFBF, 4096);
    printf("this stays in the buffer\n");
    quick_exit(5);
}
