// /proc of oneself: what is there, and that it agrees with the system calls.
// concept: 11 what people look at afterwards
// run: one two => 0
// qemu: no (its /proc is the host's)
#include "proc.h"
#include "thread.h"
#include <dirent.h>

static char text[16384];

static size_t read_file(const char *path) {
    int fd = open(path, O_RDONLY);
    CHECK(fd >= 0);
    size_t length = 0;
    ssize_t got;
    while ((got = read(fd, text + length, sizeof text - 1 - length)) > 0) length += (size_t)got;
    CHECK(got == 0 && close(fd) == 0);
    text[length] = 0;
    return length;
}

static int count_entries(const char *path) {
    DIR *directory = opendir(path);
    CHECK(directory);
    int count = 0;
    for (struct dirent *entry; (entry = readdir(directory));) count += entry->d_name[0] != '.';
    CHECK(closedir(directory) == 0);
    return count;
}

static void *sleeps(void *unused) {
    for (;;) pause();
    return unused;
}

extern char **environ;

int main(int argc, char **argv) {
    char link[512], path[64];
    // Who we are.
    CHECK(readlink("/proc/self", link, sizeof link) > 0 && atoi(link) == getpid());
    snprintf(path, sizeof path, "%d/task/%d", getpid(), gettid());
    ssize_t length = readlink("/proc/thread-self", link, sizeof link - 1);
    CHECK(length > 0 && (link[length] = 0, strcmp(link, path) == 0));
    CHECK(read_file("/proc/self/comm") == 10 && strcmp(text, "proc_self\n") == 0);
    size_t total = read_file("/proc/self/cmdline");
    char *at = text;
    for (int i = 0; i < argc; i++, at += strlen(at) + 1) CHECK(strcmp(at, argv[i]) == 0);
    CHECK(at == text + total);
    length = readlink("/proc/self/exe", link, sizeof link - 1);
    CHECK(length > 0 && (link[length] = 0, strcmp(strrchr(link, '/'), "/proc_self") == 0));
    char here[512];
    length = readlink("/proc/self/cwd", link, sizeof link - 1);
    CHECK(length > 0 && (link[length] = 0, getcwd(here, sizeof here)) && strcmp(link, here) == 0);
    CHECK(readlink("/proc/self/root", link, sizeof link) == 1 && link[0] == '/');

    // stat, as ps reads it.
    read_file("/proc/self/stat");
    int pid, parent, group, session;
    char name[32], state;
    CHECK(sscanf(text, "%d (%31[^)]) %c %d %d %d", &pid, name, &state, &parent, &group, &session) == 6);
    CHECK(pid == getpid() && parent == getppid() && group == getpgrp() && session == getsid(0) && state == 'R');
    int fields = 1;
    for (char *c = strrchr(text, ')'); *c; c++) fields += *c == ' ';
    say("stat: %s, %d fields\n", name, fields + 1);
    read_file("/proc/self/statm");
    long size, resident;
    CHECK(sscanf(text, "%ld %ld", &size, &resident) == 2 && size >= resident && resident > 0);

    // status agrees.
    CHECK(atoi(status_field(getpid(), "Pid")) == getpid() && atoi(status_field(getpid(), "PPid")) == getppid());
    CHECK(atoi(status_field(getpid(), "Threads")) == 1);
    CHECK((uid_t)atoi(status_field(getpid(), "Uid")) == getuid());
    signal(SIGUSR1, SIG_IGN);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGHUP);
    CHECK(sigprocmask(SIG_BLOCK, &set, NULL) == 0 && raise(SIGHUP) == 0);
    say("SigBlk %s\n", status_field(getpid(), "SigBlk"));
    say("SigPnd %s\n", status_field(getpid(), "SigPnd"));
    CHECK(strtoul(status_field(getpid(), "SigIgn"), NULL, 16) & 1ul << (SIGUSR1 - 1));

    // Threads and descriptors.
    start_thread(sleeps, NULL);
    start_thread(sleeps, NULL);
    CHECK(count_entries("/proc/self/task") == 3 && atoi(status_field(getpid(), "Threads")) == 3);
    int ends[2];
    CHECK(pipe(ends) == 0);
    snprintf(path, sizeof path, "/proc/self/fd/%d", ends[0]);
    length = readlink(path, link, sizeof link - 1);
    CHECK(length > 6 && strncmp(link, "pipe:[", 6) == 0);
    int before = count_entries("/proc/self/fd"), null = open("/dev/null", O_RDONLY | O_CLOEXEC | O_APPEND);
    CHECK(count_entries("/proc/self/fd") == before + 1);
    snprintf(path, sizeof path, "/proc/self/fdinfo/%d", null);
    read_file(path);
    int position, flags;
    CHECK(sscanf(text, "pos:\t%d\nflags:\t%o", &position, &flags) == 2 && position == 0);
    CHECK((flags & O_CLOEXEC) && (flags & O_APPEND));
    // A descriptor can be opened again by its name there.
    CHECK(write(ends[1], "x", 1) == 1);
    snprintf(path, sizeof path, "/proc/self/fd/%d", ends[0]);
    int again = open(path, O_RDONLY);
    CHECK(again >= 0 && read(again, link, 1) == 1);

    // The memory: what we map is listed as we map it.
    char *area = mmap(NULL, 3 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(mprotect(area + 4096, 4096, PROT_NONE) == 0);
    char wanted[64];
    read_file("/proc/self/maps");
    snprintf(wanted, sizeof wanted, "%lx-%lx ---p 00000000 00:00 0 ", (long)area + 4096, (long)area + 8192);
    CHECK(strstr(text, wanted));
    CHECK(strstr(text, "[stack]") && strstr(text, "/proc_self\n"));
    CHECK(read_file("/proc/self/environ") > 0 && strcmp(text, environ[0]) == 0);
    CHECK(read_file("/proc/self/limits") > 0 && strstr(text, "Max open files"));
    CHECK(read_file("/proc/self/auxv") % 16 == 0);
    say("files of a process agree with its calls\n");
    return 0;
}
