// The line discipline: canonical lines with editing and echo, raw mode with VMIN and VTIME, output processing, window
// size with SIGWINCH, and what is no terminal.
// qemu: no (it does not know all of these ioctls)
#include "pty.h"
#include <poll.h>

static int master, tty;

static void type(const char *keys) { CHECK(write(master, keys, strlen(keys)) == (ssize_t)strlen(keys)); }

// What can be read, with control characters shown: one read of the terminal, everything from its master.
static void show(const char *label, int fd) {
    char bytes[256], text[600];
    ssize_t got = -1, more = 0;
    // Linux works on input in a thread of its own: give it time to get it all done.
    while (poll(&(struct pollfd){fd, POLLIN, 0}, 1, 100) == 1) {
        more = read(fd, bytes + (got > 0 ? got : 0), sizeof bytes / 2);
        CHECK(more >= 0);
        got = got > 0 ? got + more : more;
        if (fd != master) break;
    }
    int length = 0;
    for (ssize_t i = 0; i < got; i++) {
        unsigned char byte = (unsigned char)bytes[i];
        if (byte == '\n') length += sprintf(text + length, "\\n");
        else if (byte == '\r') length += sprintf(text + length, "\\r");
        else if (byte < 32 || byte == 127) length += sprintf(text + length, "<%d>", byte);
        else text[length++] = (char)byte;
    }
    text[length] = 0;
    say("%s: %s%s\n", label, got < 0 ? "nothing" : got == 0 ? "end of file" : "", text);
}

static volatile sig_atomic_t winch;
static void on_winch(int sig) { winch = sig; }

static void set(void (*change)(struct termios *termios)) {
    struct termios termios;
    CHECK(tcgetattr(tty, &termios) == 0);
    change(&termios);
    CHECK(tcsetattr(tty, TCSANOW, &termios) == 0);
}
static void no_echo(struct termios *termios) { termios->c_lflag &= ~(tcflag_t)ECHO; }
static void raw(struct termios *termios) {
    cfmakeraw(termios);
    termios->c_cc[VMIN] = 3, termios->c_cc[VTIME] = 0;
}
static void timed(struct termios *termios) { termios->c_cc[VMIN] = 0, termios->c_cc[VTIME] = 1; }

int main(void) {
    struct pty pty = pty_new();
    pid_t pid = fork();
    if (pid > 0) return status_of(pid) != 0;
    tty = pty_login(&pty);
    master = pty.master;
    CHECK(isatty(tty) && isatty(master));

    type("half");
    show("no whole line", tty);
    type(" a line\nand more");
    show("a line", tty);
    show("echo", master);
    type("\x15now this\x7f\x7fose\n");
    show("erased and killed", tty);
    show("echo", master);
    set(no_echo);
    type("secret\n");
    show("without echo", tty);
    show("echo", master);
    type("text\x04\x04");
    show("^D after text", tty);
    show("^D alone", tty);
    type("one\ntwo\n");
    char bytes[16];
    CHECK(read(tty, bytes, 2) == 2 && read(tty, bytes, 16) == 2);
    show("the next line", tty);
    type("\x16\x03\n");
    show("quoted ^C", tty);

    CHECK(write(tty, "out\nput\n", 8) == 8);
    show("output", master);
    set(raw);
    type("ab");
    show("raw, VMIN 3 and two keys", tty);
    type("\x03");
    show("and a third", tty);
    CHECK(write(tty, "out\nput\n", 8) == 8);
    show("raw output", master);
    set(timed);
    CHECK(read(tty, bytes, 16) == 0);
    say("VTIME: end of file after a while\n");

    signal(SIGWINCH, on_winch);
    struct winsize size = {24, 80, 0, 0}, seen;
    CHECK(ioctl(master, TIOCSWINSZ, &size) == 0);
    while (!winch) sleep_ms(1);
    CHECK(ioctl(tty, TIOCGWINSZ, &seen) == 0 && seen.ws_row == 24 && seen.ws_col == 80);
    say("SIGWINCH, %d by %d\n", seen.ws_row, seen.ws_col);
    // The same again is no change.
    winch = 0;
    CHECK(ioctl(tty, TIOCSWINSZ, &size) == 0 && !winch);

    type("waiting");
    for (int count = 0; count < 7;) CHECK(ioctl(tty, FIONREAD, &count) == 0);
    CHECK(tcflush(tty, TCIFLUSH) == 0);
    show("flushed", tty);
    int again = open("/dev/tty", O_RDWR);
    CHECK(again >= 0 && tcgetsid(again) == getpid() && close(again) == 0);
    struct termios termios;
    int null = open("/dev/null", O_RDWR);
    CHECK_FAILS(tcgetattr(null, &termios), ENOTTY);
    CHECK_FAILS(ioctl(null, TIOCGWINSZ, &seen), ENOTTY);
    // Given up, the terminal is nobody's.
    signal(SIGHUP, SIG_IGN);
    CHECK(ioctl(tty, TIOCNOTTY) == 0);
    CHECK_FAILS(open("/dev/tty", O_RDWR), ENXIO);
    CHECK_FAILS(tcgetpgrp(tty), ENOTTY);
    CHECK(ioctl(tty, TIOCSCTTY, 0) == 0 && tcgetpgrp(tty) == getpid());
    say("given up and taken again\n");
    _exit(0);
}
