// A stop signal stops every thread of the process, SIGCONT lets all go on even if it is blocked or ignored; a stop
// drops a pending SIGCONT and SIGCONT drops pending stops. SIGKILL ends a stopped process.
// concept: 6 signals
#include "proc.h"
#include "thread.h"

struct shared {
    atomic_long counters[3];
    atomic_int handled;
};
static struct shared *shared;

static void *count(void *counter) {
    for (;;) {
        ++*(atomic_long *)counter;
        sched_yield();
    }
    return NULL;
}

static void handler(int sig) {
    (void)sig;
    shared->handled++;
}

static void child(void) {
    // A group with a parent in another one is not orphaned, whoever started us: SIGTSTP stops it.
    CHECK(setpgid(0, 0) == 0);
    signal(SIGCONT, handler);
    start_thread(count, &shared->counters[0]);
    start_thread(count, &shared->counters[1]);
    count(&shared->counters[2]);
}

static void wait_until_running(void) {
    for (int i = 0; i < 3; i++)
        for (long seen = shared->counters[i]; shared->counters[i] == seen;) sleep_ms(1);
}

static bool stands_still(void) {
    long seen[3];
    for (int i = 0; i < 3; i++) seen[i] = shared->counters[i];
    sleep_ms(30);
    for (int i = 0; i < 3; i++)
        if (shared->counters[i] != seen[i]) return false;
    return true;
}

int main(void) {
    shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t pid = fork();
    if (pid == 0) child();
    wait_until_running();
    static const int stops[] = {SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU};
    int status;
    for (size_t i = 0; i < COUNT(stops); i++) {
        CHECK(kill(pid, stops[i]) == 0);
        CHECK(waitpid(pid, &status, WUNTRACED) == pid);
        CHECK(stands_still());
        say("%s: all threads stand still\n", status_text(status));
        CHECK(kill(pid, SIGCONT) == 0);
        CHECK(waitpid(pid, &status, WCONTINUED) == pid && WIFCONTINUED(status));
        wait_until_running();
    }
    while (shared->handled < 4) sleep_ms(1);
    say("handler of SIGCONT ran %d times\n", shared->handled);

    // Signals wait while it is stopped, except SIGKILL.
    CHECK(kill(pid, SIGSTOP) == 0 && waitpid(pid, &status, WUNTRACED) == pid);
    CHECK(kill(pid, SIGTERM) == 0);
    sleep_ms(20);
    CHECK(waitpid(pid, &status, WNOHANG) == 0 && task_state(pid, pid) == 'T');
    CHECK(kill(pid, SIGCONT) == 0);
    say("SIGTERM while stopped, then SIGCONT: %s\n", status_text(status_of(pid)));

    pid = fork();
    if (pid == 0) child();
    CHECK(kill(pid, SIGSTOP) == 0 && waitpid(pid, &status, WUNTRACED) == pid);
    CHECK(kill(pid, SIGKILL) == 0);
    say("SIGKILL while stopped: %s\n", status_text(status_of(pid)));

    // Pending, blocked ones cancel each other.
    sigset_t all, pending;
    sigfillset(&all);
    CHECK(sigprocmask(SIG_SETMASK, &all, NULL) == 0);
    kill(getpid(), SIGTSTP);
    CHECK(sigpending(&pending) == 0 && sigismember(&pending, SIGTSTP));
    kill(getpid(), SIGCONT);
    CHECK(sigpending(&pending) == 0 && !sigismember(&pending, SIGTSTP) && sigismember(&pending, SIGCONT));
    kill(getpid(), SIGTTIN);
    CHECK(sigpending(&pending) == 0 && sigismember(&pending, SIGTTIN) && !sigismember(&pending, SIGCONT));
    say("pending stop and continue cancel each other\n");
    return 0;
}
