// A zombie has its pid, its parent, its group and its name until it is waited for, and nothing else: no memory, no
// descriptors; then its number is free.
// concept: 4 exit_notify: the family
// qemu: no (its /proc is the host's)
#include "proc.h"

static void line(pid_t pid, const char *field) {
    const char *value = status_field(pid, field);
    say("%s: %s\n", field, value ? value : "-");
}

int main(void) {
    pid_t pid = fork();
    if (pid == 0) _exit(0);
    CHECK(waitid(P_PID, pid, &(siginfo_t){0}, WEXITED | WNOWAIT) == 0);
    line(pid, "Name");
    line(pid, "State");
    line(pid, "VmRSS");
    line(pid, "Threads");
    CHECK(atoi(status_field(pid, "PPid")) == getpid() && atoi(status_field(pid, "Tgid")) == pid);
    CHECK(getpgid(pid) == getpgrp() && getsid(pid) == getsid(0));

    char path[64], text[16];
    snprintf(path, sizeof path, "/proc/%d/cmdline", pid);
    int fd = open(path, O_RDONLY);
    CHECK(fd >= 0 && read(fd, text, sizeof text) == 0);
    snprintf(path, sizeof path, "/proc/%d/exe", pid);
    CHECK_FAILS(readlink(path, text, sizeof text), ENOENT);
    CHECK(task_state(pid, pid) == 'Z');
    CHECK(status_of(pid) == 0);
    // What was opened while it lived says that it is gone.
    CHECK(read(fd, text, sizeof text) <= 0);
    CHECK(task_state(pid, pid) == 0);
    say("gone after wait\n");
    return 0;
}
