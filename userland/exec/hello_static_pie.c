// A static position-independent executable relocates itself before main: pointers in initialised data are right.
// concept: 10 static and dynamic
// link: static-pie
#include "check.h"

static const char text[] = "hello from a static PIE";
static const char *const pointer = text;
static int (*const function)(const char *) = puts;

int main(void) {
    CHECK(pointer == text);
    return function(pointer) < 0;
}
