// A pseudo-terminal for tests: the master, and a child whose session it controls.
#pragma once
#include "check.h"
#include <sys/ioctl.h>
#include <termios.h>

struct pty {
    int master;
    char name[64];
};

UNUSED static struct pty pty_new(void) {
    struct pty pty;
    pty.master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);
    CHECK(pty.master >= 0 && grantpt(pty.master) == 0 && unlockpt(pty.master) == 0);
    CHECK(ptsname_r(pty.master, pty.name, sizeof pty.name) == 0);
    return pty;
}

// Become the leader of a new session with this terminal as the controlling one; its descriptor.
UNUSED static int pty_login(const struct pty *pty) {
    CHECK(setsid() == getpid());
    int fd = open(pty->name, O_RDWR);
    CHECK(fd >= 0 && tcgetpgrp(fd) == getpid());
    return fd;
}

// Read from the master until this text has come; everything up to it is dropped.
UNUSED static void pty_expect(const struct pty *pty, const char *text) {
    char seen[1024] = "";
    size_t length = 0;
    while (!strstr(seen, text)) {
        CHECK(length < sizeof seen - 1);
        ssize_t got = read(pty->master, seen + length, 1);
        CHECK(got == 1);
        seen[++length] = 0;
    }
}
