// A process of several threads that a signal kills leaves a core file: every thread in its own function, the one that
// crashed first. The status word has the core bit if, and only if, the file was written.
// concept: 6 signals
// run: none => 0
// run: written => 0
// run: fault => SIGSEGV
// native: no (where core files go is up to the host)
// qemu: no (it writes core files of its own)
#include "check.h"
#include <sys/prctl.h>

static struct gate waiting;

__attribute__((noinline)) static void wait_in_thread(long number) {
    gate_open(waiting);
    for (;;) CHECK(usleep((unsigned)(1000000 + number)) == 0);
}

static void *first_thread(void *unused) {
    wait_in_thread(1);
    return unused;
}

static void *second_thread(void *unused) {
    wait_in_thread(2);
    return unused;
}

__attribute__((noinline)) static void crash_here(volatile char *address) {
    *address = 1;
    *address = 2;
}

static void threads_and_crash(void) {
    pthread_t thread;
    CHECK_PTHREAD(pthread_create(&thread, NULL, first_thread, NULL));
    CHECK_PTHREAD(pthread_create(&thread, NULL, second_thread, NULL));
    gate_wait(waiting);
    gate_wait(waiting);
    crash_here(bad_address);
    say("not reached\n");
}

static int status_of_crash(rlim_t limit, int dumpable) {
    pid_t pid = fork();
    if (!pid) {
        struct rlimit core = {limit, limit};
        CHECK(setrlimit(RLIMIT_CORE, &core) == 0);
        CHECK(prctl(PR_SET_DUMPABLE, dumpable) == 0);
        threads_and_crash();
    }
    int status = status_of(pid);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
    return WCOREDUMP(status) != 0;
}

static void show(const char *name) {
    struct stat st;
    if (stat(name, &st)) say("%s: %s\n", name, errno_name(errno));
    else say("%s: mode %o, mine %d, size %s\n", name, st.st_mode, st.st_uid == geteuid(), st.st_size > 4096 ? "good" : "?");
}

int main(int argc, char **argv) {
    CHECK(argc > 1);
    waiting = gate_new();
    const char *how = argv[1];
    if (!strcmp(how, "none")) {
        say("limit 0: core bit %d\n", status_of_crash(0, 1));
        say("limit 4095: core bit %d\n", status_of_crash(4095, 1));
        say("not dumpable: core bit %d\n", status_of_crash(RLIM_INFINITY, 0));
        show("core");
    } else if (!strcmp(how, "written")) {
        CHECK(unlink("core") == 0 || errno == ENOENT);
        say("core bit %d\n", status_of_crash(RLIM_INFINITY, 1));
        show("core");
        say("again: core bit %d\n", status_of_crash(RLIM_INFINITY, 1));
        CHECK(unlink("core") == 0 && mkdir("core", 0700) == 0);
        say("in the way: core bit %d\n", status_of_crash(RLIM_INFINITY, 1));
        CHECK(rmdir("core") == 0);
    } else {
        struct rlimit core = {RLIM_INFINITY, RLIM_INFINITY};
        CHECK(setrlimit(RLIMIT_CORE, &core) == 0);
        threads_and_crash();
    }
}
