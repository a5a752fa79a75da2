// A few looks into /proc, for what no system call tells.
#pragma once
#include "check.h"

// State letter of a task as ps shows it: R, S, T, t, Z, X; 0 when there is no such task.
UNUSED static char task_state(pid_t pid, pid_t tid) {
    char path[64], text[512];
    snprintf(path, sizeof path, "/proc/%d/task/%d/stat", pid, tid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return 0;
    ssize_t got = read(fd, text, sizeof text - 1);
    close(fd);
    if (got <= 0) return 0;
    text[got] = 0;
    char *behind_name = strrchr(text, ')');
    CHECK(behind_name);
    return behind_name[2];
}

// Wait until a task is in one of these states, for instance asleep in a call that it has announced.
UNUSED static void wait_for_state(pid_t pid, pid_t tid, const char *states) {
    for (char now; !(now = task_state(pid, tid)) || !strchr(states, now);) sleep_ms(1);
}

// The value of a line "NAME:\tVALUE" of /proc/PID/status, without the blanks before it.
UNUSED static const char *status_field(pid_t pid, const char *name) {
    static _Thread_local char line[256];
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/status", pid);
    FILE *file = fopen(path, "re");
    if (!file) return NULL;
    size_t length = strlen(name);
    const char *found = NULL;
    while (!found && fgets(line, sizeof line, file))
        if (strncmp(line, name, length) == 0 && line[length] == ':') found = line + length + 1;
    fclose(file);
    if (!found) return NULL;
    line[strcspn(line, "\n")] = 0;
    return found + strspn(found, " \t");
}
