// Job control: ^C, ^\ and ^Z go to the foreground group; a background process that reads is stopped by SIGTTIN, one
// that writes by SIGTTOU if TOSTOP is set; who ignores it gets EIO or goes through.
// concept: 6 signals
#include "pty.h"

static struct gate ready;

// A job in a group of its own, in the foreground or not.
static pid_t job(int tty, bool foreground, void (*body)(int tty)) {
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        setpgid(0, 0);
        if (foreground) CHECK(tcsetpgrp(tty, getpid()) == 0);
        signal(SIGTTOU, SIG_DFL);
        gate_open(ready);
        body(tty);
        _exit(0);
    }
    CHECK(setpgid(pid, pid) == 0 || errno == EACCES);
    gate_wait(ready);
    return pid;
}

static void sleeps(int tty) {
    (void)tty;
    for (;;) pause();
}
static void reads(int tty) {
    char byte;
    CHECK(read(tty, &byte, 1) == 1);
    _exit(byte);
}
static void reads_ignoring(int tty) {
    signal(SIGTTIN, SIG_IGN);
    CHECK_FAILS(read(tty, &(char){0}, 1), EIO);
}
static void writes(int tty) { CHECK(write(tty, "output", 6) == 6); }
static void writes_ignoring(int tty) {
    signal(SIGTTOU, SIG_IGN);
    CHECK(write(tty, "output", 6) == 6);
}

static void shell(const struct pty *pty, int tty) {
    signal(SIGTTOU, SIG_IGN);
    int status;
    static const struct {
        const char *name, *key;
    } keys[] = {{"^C", "\x03"}, {"^\\", "\x1c"}, {"^Z", "\x1a"}};
    struct rlimit none = {0, 0};
    setrlimit(RLIMIT_CORE, &none);
    for (int i = 0; i < 3; i++) {
        pid_t pid = job(tty, true, sleeps);
        CHECK(write(pty->master, keys[i].key, 1) == 1);
        CHECK(waitpid(pid, &status, WUNTRACED) == pid);
        say("%s: %s\n", keys[i].name, status_text(status));
        if (WIFSTOPPED(status)) {
            CHECK(tcsetpgrp(tty, getpid()) == 0 && kill(-pid, SIGCONT) == 0 && kill(-pid, SIGTERM) == 0);
            say("continued in the background: %s\n", status_text(status_of(pid)));
        }
        CHECK(tcsetpgrp(tty, getpid()) == 0);
    }

    pid_t pid = job(tty, false, reads);
    CHECK(waitpid(pid, &status, WUNTRACED) == pid);
    say("background read: %s\n", status_text(status));
    // fg: given the terminal, it goes on with its read.
    CHECK(tcsetpgrp(tty, pid) == 0 && kill(-pid, SIGCONT) == 0 && write(pty->master, "A\n", 2) == 2);
    say("in the foreground: %s\n", status_text(status_of(pid)));
    CHECK(tcsetpgrp(tty, getpid()) == 0);
    say("reading and ignoring SIGTTIN: %s\n", status_text(status_of(job(tty, false, reads_ignoring))));

    say("background write: %s\n", status_text(status_of(job(tty, false, writes))));
    struct termios termios;
    CHECK(tcgetattr(tty, &termios) == 0);
    termios.c_lflag |= TOSTOP;
    CHECK(tcsetattr(tty, TCSANOW, &termios) == 0);
    pid = job(tty, false, writes);
    CHECK(waitpid(pid, &status, WUNTRACED) == pid);
    say("background write with TOSTOP: %s\n", status_text(status));
    CHECK(tcsetpgrp(tty, pid) == 0 && kill(-pid, SIGCONT) == 0);
    say("in the foreground: %s\n", status_text(status_of(pid)));
    CHECK(tcsetpgrp(tty, getpid()) == 0);
    say("writing and ignoring SIGTTOU: %s\n", status_text(status_of(job(tty, false, writes_ignoring))));
    CHECK_FAILS(tcsetpgrp(tty, getpid() + 100000), ESRCH);
}

int main(void) {
    ready = gate_new();
    struct pty pty = pty_new();
    pid_t pid = fork();
    if (pid == 0) {
        shell(&pty, pty_login(&pty));
        _exit(0);
    }
    CHECK(status_of(pid) == 0);
    return 0;
}
