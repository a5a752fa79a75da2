// A dying session leader gives up its controlling terminal: the foreground group gets SIGHUP (on a pseudo-terminal no
// SIGCONT, and others can still use it), and /dev/tty is nobody's. Closing the master hangs up: SIGHUP to the leader.
// concept: 3 do_exit, in order
#include "pty.h"

static struct gate ready, told, background_go;

static void foreground(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGCONT);
    CHECK(sigprocmask(SIG_BLOCK, &set, NULL) == 0 && setpgid(0, 0) == 0);
    gate_open(ready);
    int first = sigwaitinfo(&set, NULL), second = sigtimedwait(&set, NULL, &(struct timespec){0, 50000000});
    say("foreground: %s, then %s\n", signal_name(first), second < 0 ? "nothing" : signal_name(second));
    gate_open(told);
    _exit(0);
}

static void background(int tty) {
    CHECK(setpgid(0, 0) == 0);
    gate_open(ready);
    gate_wait(background_go);
    CHECK_FAILS(open("/dev/tty", O_RDWR), ENXIO);
    CHECK_FAILS(tcgetpgrp(tty), ENOTTY);
    CHECK(write(tty, "x", 1) == 1);
    say("background: not our terminal any more\n");
    _exit(0);
}

int main(void) {
    ready = gate_new();
    told = gate_new();
    background_go = gate_new();
    // All members of the session hold this pipe: it ends when they do.
    int ends[2];
    CHECK(pipe(ends) == 0);
    struct pty pty = pty_new();
    pid_t leader = fork();
    if (leader == 0) {
        int tty = pty_login(&pty);
        signal(SIGTTOU, SIG_IGN);
        if (fork() == 0) background(tty);
        gate_wait(ready);
        pid_t pid = fork();
        if (pid == 0) foreground();
        gate_wait(ready);
        CHECK(tcsetpgrp(tty, pid) == 0 && tcgetpgrp(tty) == pid);
        _exit(0);
    }
    close(ends[1]);
    CHECK(status_of(leader) == 0);
    gate_wait(told);
    gate_open(background_go);
    CHECK(read(ends[0], &(char){0}, 1) == 0);
    close(pty.master);

    // The other way round: the master goes, the leader gets SIGHUP (and SIGCONT).
    pty = pty_new();
    leader = fork();
    if (leader == 0) {
        pty_login(&pty);
        close(pty.master);
        gate_open(ready);
        for (;;) pause();
    }
    gate_wait(ready);
    CHECK(close(pty.master) == 0);
    say("master closed: %s\n", status_text(status_of(leader)));
    return 0;
}
