// /proc of the system, as far as ps, top, uptime and free read it; processes come and go in its directory.
// concept: 11 what people look at afterwards
// qemu: no (its /proc is the host's)
#include "proc.h"
#include <dirent.h>

static char text[65536];

static const char *read_file(const char *path) {
    int fd = open(path, O_RDONLY);
    CHECK(fd >= 0);
    size_t length = 0;
    ssize_t got;
    while ((got = read(fd, text + length, sizeof text - 1 - length)) > 0) length += (size_t)got;
    CHECK(got == 0 && length > 0 && close(fd) == 0);
    text[length] = 0;
    return text;
}

static bool listed(pid_t pid) {
    DIR *directory = opendir("/proc");
    CHECK(directory);
    bool found = false;
    for (struct dirent *entry; (entry = readdir(directory));) found |= atoi(entry->d_name) == pid;
    CHECK(closedir(directory) == 0);
    return found;
}

int main(void) {
    double up, idle, load[3];
    CHECK(sscanf(read_file("/proc/uptime"), "%lf %lf", &up, &idle) == 2 && up >= 0);
    CHECK(sscanf(read_file("/proc/loadavg"), "%lf %lf %lf", &load[0], &load[1], &load[2]) == 3);
    CHECK(strncmp(read_file("/proc/version"), "Linux version ", 14) == 0);
    CHECK(strstr(read_file("/proc/meminfo"), "MemTotal:") && strstr(text, "MemFree:") && strstr(text, " kB\n"));
    CHECK(strncmp(read_file("/proc/stat"), "cpu  ", 5) == 0 && strstr(text, "btime ") && strstr(text, "processes "));
    CHECK(strstr(read_file("/proc/cpuinfo"), "processor"));
    CHECK(strstr(read_file("/proc/mounts"), " /proc proc "));
    CHECK(strstr(read_file("/proc/filesystems"), "proc\n"));
    CHECK(atoi(read_file("/proc/sys/kernel/pid_max")) >= 32768);
    CHECK(strcmp(read_file("/proc/sys/kernel/ostype"), "Linux\n") == 0);
    CHECK(listed(1) && listed(getpid()));

    struct gate go = gate_new();
    pid_t pid = fork();
    if (pid == 0) {
        gate_wait(go);
        _exit(0);
    }
    CHECK(listed(pid));
    wait_for_state(pid, pid, "S");
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/wchan", pid);
    read_file(path);
    snprintf(path, sizeof path, "/proc/%d", pid);
    int directory = open(path, O_RDONLY | O_DIRECTORY);
    CHECK(directory >= 0);
    gate_open(go);
    CHECK(waitid(P_PID, (id_t)pid, &(siginfo_t){0}, WEXITED | WNOWAIT) == 0);
    CHECK(listed(pid) && task_state(pid, pid) == 'Z');
    CHECK(status_of(pid) == 0);
    CHECK(!listed(pid));
    CHECK_FAILS(openat(directory, "stat", O_RDONLY), ESRCH);
    CHECK_FAILS(open("/proc/4194305/stat", O_RDONLY), ENOENT);
    CHECK_FAILS(open("/proc/self/no-such-file", O_RDONLY), ENOENT);
    CHECK_FAILS(open("/proc/new", O_RDWR | O_CREAT, 0600), ENOENT);
    say("files of the system as they should be\n");
    return 0;
}
