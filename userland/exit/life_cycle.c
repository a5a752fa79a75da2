// One life or death at a time, each in the shortest way that has only one order of events: fork and wait, threads that
// leave one by one or all at once, orphans, stops, exec, a core dump. Who watches the kernel sees the whole sequence.
// concept: 4 exit_notify: the family
// run: fork => 0
// run: group => 33
// run: last => 5
// run: leader_first => 6
// run: kill => SIGTERM
// run: core => SIGSEGV
// run: exec => 17
// run: vfork => 0
// run: orphan => 0
// run: zombies => 0
// run: subreaper => 0
// run: ignored => 0
// run: stop => 0
// run: files => 0
// qemu: no (it cannot execute a foreign binary without binfmt_misc)
#include "self.h"
#include "thread.h"
#include <sys/prctl.h>

static struct gate ready;
static pid_t tid;
static uint32_t alive;  // word of the leader that goes first

// Changes nothing, but an observer of signals sees it.
static void mark(void) {
    CHECK(kill(getpid(), SIGURG) == 0);
}

// The child goes on when the parent has returned from fork, where the C library has all signals blocked.
static pid_t forked(void) {
    struct gate returned = gate_new();
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid) gate_open(returned);
    else gate_wait(returned);
    close(returned.read_end);
    close(returned.write_end);
    return pid;
}

static sigset_t only(int sig) {
    sigset_t set;
    CHECK(sigemptyset(&set) == 0 && sigaddset(&set, sig) == 0);
    return set;
}

static void *sleeps(void *unused) {
    gate_open(ready);
    for (;;) pause();
    return unused;
}

// A thread that is asleep for good.
static void start_sleeper(void) {
    start_thread(sleeps, NULL);
    gate_wait(ready);
}

static void *ends_group(void *unused) {
    gate_wait(ready);
    syscall(SYS_exit_group, 33);
    return unused;
}

static void *leaves(void *unused) {
    tid = gettid();
    gate_open(ready);
    thread_exit(9);
    return unused;
}

static void *leaves_after_leader(void *unused) {
    await_death(&alive);
    thread_exit(6);
    return unused;
}

static void *executes(void *unused) {
    gate_wait(ready);
    exec_self("executed", NULL);
    return unused;
}

static void *kills(void *unused) {
    gate_wait(ready);
    kill(getpid(), SIGTERM);
    return unused;
}

static void *crashes(void *unused) {
    gate_wait(ready);
    *bad_address = 1;
    return unused;
}

// With two other threads, the leader among them, a third does this: when the leader has returned from the C library,
// which blocks all signals while it makes a thread.
static void third_of_three(void *(*function)(void *)) {
    start_sleeper();
    start_thread(function, NULL);
    gate_open(ready);
    for (;;) pause();
}

static int forks(void) {
    pid_t pid = forked();
    if (pid == 0) _exit(7);
    CHECK(status_of(pid) == 7 << 8);
    return 0;
}

static int vforks(void) {
    const char *self = self_path();
    CHECK(dup2(ready.read_end, 0) == 0);
    pid_t pid = vfork();
    if (pid == 0) {
        execl(self, self, "waits", NULL);
        _exit(1);
    }
    mark();
    gate_open(ready);
    CHECK(status_of(pid) == 17 << 8);
    return 0;
}

// The grandchild is orphaned while it lives, and ends after the middle has been reaped.
static int orphans(bool adopt) {
    struct gate go = gate_new(), told = gate_new();
    CHECK(!adopt || prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0);
    pid_t middle = forked();
    if (middle == 0) {
        if (forked()) _exit(1);
        pid_t me = getpid();
        CHECK(write(told.write_end, &me, sizeof me) == sizeof me);
        gate_wait(go);
        _exit(2);
    }
    CHECK(status_of(middle) == 1 << 8);
    gate_open(go);
    if (adopt) {
        CHECK(waitpid(-1, NULL, 0) > 0);
    } else {
        pid_t orphan;
        CHECK(read(told.read_end, &orphan, sizeof orphan) == sizeof orphan);
        for (int ms = 0; kill(orphan, 0) == 0 && ms < 1000; ms++) sleep_ms(1);  // init reaps it, if it is one that does
    }
    return 0;
}

// Two zombies whose new parent ignores them: nobody reaps them, nor the one who left them.
static int zombies(void) {
    CHECK(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0 && signal(SIGCHLD, SIG_IGN) != SIG_ERR);
    pid_t middle = forked();
    if (middle == 0) {
        CHECK(signal(SIGCHLD, SIG_DFL) != SIG_ERR);
        for (int i = 0; i < 2; i++) {
            pid_t pid = forked();
            if (pid == 0) _exit(i);
            CHECK(waitid(P_PID, (id_t)pid, &(siginfo_t){0}, WEXITED | WNOWAIT) == 0);
        }
        _exit(3);
    }
    CHECK_FAILS(waitpid(-1, NULL, 0), ECHILD);
    return 0;
}

static int ignores(void) {
    CHECK(signal(SIGCHLD, SIG_IGN) != SIG_ERR);
    if (forked() == 0) _exit(4);
    CHECK_FAILS(waitpid(-1, NULL, 0), ECHILD);
    return 0;
}

static int stops(void) {
    int status, sig;
    sigset_t set = only(SIGCHLD);
    CHECK(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
    pid_t pid = forked();
    if (pid == 0) sleeps(NULL);
    gate_wait(ready);
    CHECK(kill(pid, SIGSTOP) == 0 && sigwait(&set, &sig) == 0);
    CHECK(waitpid(pid, &status, WUNTRACED) == pid && WIFSTOPPED(status));
    CHECK(kill(pid, SIGCONT) == 0 && sigwait(&set, &sig) == 0);
    CHECK(waitpid(pid, &status, WCONTINUED) == pid && WIFCONTINUED(status));
    CHECK(kill(pid, SIGKILL) == 0 && sigwait(&set, &sig) == 0 && status_of(pid) == SIGKILL);
    return 0;
}

// The pipe is closed by death before SIGCHLD is sent.
static int closes(void) {
    sigset_t set = only(SIGCHLD);
    CHECK(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
    int ends[2];
    CHECK(pipe(ends) == 0);
    pid_t pid = forked();
    if (pid == 0) {
        open("/dev/witness", O_RDONLY);  // a device of the test, elsewhere there is none
        _exit(8);
    }
    close(ends[1]);
    CHECK(read(ends[0], &(char){0}, 1) == 0);
    CHECK(sigwait(&set, &(int){0}) == 0 && waitpid(pid, NULL, WNOHANG) == pid);
    return 0;
}

int main(int argc, char **argv) {
    CHECK(argc == 2);
    const char *what = argv[1];
    CHECK(setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0}) == 0);
    if (!strcmp(what, "waits")) gate_wait((struct gate){0, -1});
    if (!strcmp(what, "waits") || !strcmp(what, "executed")) return 17;
    self_path();
    ready = gate_new();
    if (!strcmp(what, "fork")) return forks();
    if (!strcmp(what, "group")) third_of_three(ends_group);
    if (!strcmp(what, "kill")) third_of_three(kills);
    if (!strcmp(what, "core")) third_of_three(crashes);
    if (!strcmp(what, "exec")) third_of_three(executes);
    if (!strcmp(what, "last")) {
        start_thread(leaves, NULL);
        gate_wait(ready);
        while (syscall(SYS_tgkill, getpid(), tid, 0) == 0) sleep_ms(1);
        thread_exit(5);
    }
    if (!strcmp(what, "leader_first")) {
        announce_death(&alive);
        start_thread(leaves_after_leader, NULL);
        thread_exit(1);
    }
    if (!strcmp(what, "vfork")) return vforks();
    if (!strcmp(what, "orphan")) return orphans(false);
    if (!strcmp(what, "subreaper")) return orphans(true);
    if (!strcmp(what, "zombies")) return zombies();
    if (!strcmp(what, "ignored")) return ignores();
    if (!strcmp(what, "stop")) return stops();
    if (!strcmp(what, "files")) return closes();
    return 1;
}
