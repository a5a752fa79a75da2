// exit(2) and exit_group(2) keep the low eight bits of what they are given; wait sees (code & 0xff) << 8.
// concept: 2 two ways out
// run: => 0
// run: 7 => 7
// run: 255 => 255
// run: 256 => 0
// run: -1 => 255
#include "check.h"

static int status_after(long call, int code) {
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) syscall(call, code);
    return status_of(pid);
}

int main(int argc, char **argv) {
    static const int codes[] = {0, 1, 42, 127, 128, 255, 256, 257, -1, -256, 0x12345};
    for (size_t i = 0; i < COUNT(codes); i++) {
        int by_exit = status_after(SYS_exit, codes[i]), by_group = status_after(SYS_exit_group, codes[i]);
        say("exit %d: %#06x, exit_group: %#06x\n", codes[i], by_exit, by_group);
        CHECK(by_exit == (codes[i] & 0xff) << 8 && by_group == by_exit);
    }
    return argc > 1 ? atoi(argv[1]) : 0;
}
