// What execve keeps and what it resets: the pid, parent, group, directory, umask, limits, ignored signals, the mask,
// pending signals and alarms are kept; handlers, the alternate stack, mappings and POSIX timers go.
// concept: 2 two ways out
// qemu: no (it cannot execute a foreign binary without binfmt_misc)
#include "self.h"
#include <sys/prctl.h>

static void handler(int sig) { (void)sig; }

static int after(const char *before) {
    long pid, parent, address, timer;
    CHECK(sscanf(before, "%ld %ld %ld %ld", &pid, &parent, &address, &timer) == 4);
    CHECK(getpid() == pid && gettid() == pid && getppid() == parent && getpgrp() == pid);
    char here[64];
    CHECK(getcwd(here, sizeof here) && strcmp(here, "/") == 0 && umask(0) == 051);
    struct rlimit limit;
    CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur == 77);

    struct sigaction action;
    CHECK(sigaction(SIGUSR1, NULL, &action) == 0 && action.sa_handler == SIG_DFL);
    CHECK(sigaction(SIGUSR2, NULL, &action) == 0 && action.sa_handler == SIG_IGN);
    sigset_t set;
    CHECK(sigprocmask(SIG_SETMASK, NULL, &set) == 0 && sigismember(&set, SIGHUP) && !sigismember(&set, SIGINT));
    CHECK(sigpending(&set) == 0 && sigismember(&set, SIGHUP));
    stack_t stack;
    CHECK(sigaltstack(NULL, &stack) == 0 && stack.ss_flags == SS_DISABLE);
    say("signals: ignored, mask and pending kept, handler and stack reset\n");

    struct itimerval alarm;
    CHECK(getitimer(ITIMER_REAL, &alarm) == 0 && alarm.it_value.tv_sec > 400);
    struct itimerspec spec;
    CHECK_FAILS(syscall(SYS_timer_gettime, (int)timer, &spec), EINVAL);
    say("timers: the alarm is kept, the POSIX timer gone\n");

    unsigned char resident;
    CHECK_FAILS(mincore((void *)address, 4096, &resident), ENOMEM);
    char name[16];
    CHECK(prctl(PR_GET_NAME, name) == 0);
    say("name %s\n", name);
    CHECK(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1);
    CHECK(prctl(PR_GET_DUMPABLE) == 1);
    return 0;
}

int main(int argc, char **argv) {
    if (argc > 1) return after(argv[1]);
    self_path();
    pid_t pid = fork();
    if (pid > 0) return status_of(pid) != 0;

    CHECK(setpgid(0, 0) == 0 && chdir("/") == 0);
    umask(051);
    struct rlimit limit = {77, 99};
    CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    signal(SIGUSR1, handler);
    signal(SIGUSR2, SIG_IGN);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGHUP);
    CHECK(sigprocmask(SIG_SETMASK, &set, NULL) == 0 && kill(getpid(), SIGHUP) == 0);
    static char stack_memory[65536];
    stack_t stack = {.ss_sp = stack_memory, .ss_size = sizeof stack_memory};
    CHECK(sigaltstack(&stack, NULL) == 0);
    struct itimerval alarm = {{0, 0}, {500, 0}};
    CHECK(setitimer(ITIMER_REAL, &alarm, NULL) == 0);
    int timer;
    CHECK(syscall(SYS_timer_create, CLOCK_MONOTONIC, NULL, &timer) == 0);
    // Far from everything that the new program could have.
    void *area = mmap((void *)0x10000000000, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    CHECK(area != MAP_FAILED);
    CHECK(prctl(PR_SET_NAME, "another name") == 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    CHECK(prctl(PR_SET_DUMPABLE, 0) == 0);
    char before[128];
    snprintf(before, sizeof before, "%d %d %ld %d", getpid(), getppid(), (long)area, timer);
    exec_self(before, NULL);
}
