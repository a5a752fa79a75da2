// The smallest program there is: one write(2) and a return from main.
// concept: 9 what the C library does on top
#include "check.h"

int main(void) {
    puts("hello, world");
    return 0;
}
