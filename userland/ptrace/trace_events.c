// A tracer follows forks, threads, exec and exit of a process through its events, and prints every stop. Tasks that
// Linux lets run side by side are waited for one by one, so that the order is always the same.
// concept: 8
// qemu: no (it does not implement ptrace)
#include "check.h"
#include "self.h"
#include <sys/ptrace.h>

#define OPTIONS                                                                                                     \
    (PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC | PTRACE_O_TRACEVFORKDONE | \
     PTRACE_O_TRACEEXIT | PTRACE_O_EXITKILL)

// The tracee.

static void *leave(void *unused) { return unused; }
static void *sleep_on(void *unused) {
    for (;;) pause();
    return unused;
}
static void *exec_again(void *unused) {
    (void)unused;
    exec_self("again", NULL);
}

static void tracee(void) {
    pid_t child = fork();
    if (!child) _exit(3);
    CHECK(WEXITSTATUS(status_of(child)) == 3);

    child = vfork();
    if (!child) _exit(4);
    CHECK(WEXITSTATUS(status_of(child)) == 4);

    pthread_t thread;
    CHECK_PTHREAD(pthread_create(&thread, NULL, leave, NULL));
    CHECK_PTHREAD(pthread_join(thread, NULL));

    child = fork();
    if (!child) {
        raise(SIGTERM);
        _exit(5);
    }
    CHECK(WTERMSIG(status_of(child)) == SIGTERM);

    CHECK_PTHREAD(pthread_create(&thread, NULL, sleep_on, NULL));
    CHECK_PTHREAD(pthread_create(&thread, NULL, exec_again, NULL));
    sleep_on(NULL);
}

// The tracer.

static pid_t known[16];  // in the order in which they appeared; a task is called by its place
static int count;

static int name_of(pid_t pid) {
    for (int i = 0; i < count; i++)
        if (known[i] == pid) return i;
    known[count] = pid;
    return count++;
}

static const char *event_name(int event) {
    static const char *const names[] = {"", "fork", "vfork", "clone", "exec", "vfork done", "exit", "seccomp"};
    return event == 128 ? "stop" : names[event];
}

static unsigned long message_of(pid_t pid) {
    unsigned long message;
    CHECK(ptrace(PTRACE_GETEVENTMSG, pid, NULL, &message) == 0);
    return message;
}

// Wait for one task, or any (-1), say what it reports, and give its number.
static pid_t report(pid_t wanted, int *status) {
    pid_t pid = waitpid(wanted, status, __WALL);
    CHECK(pid > 0);
    int event = *status >> 16;
    if (WIFSTOPPED(*status) && event) {
        say("task %d: event %s", name_of(pid), event_name(event));
        unsigned long message = message_of(pid);
        if (event == PTRACE_EVENT_EXIT) say(", status %#lx\n", message);
        else if (event == 128) say(", %s\n", signal_name(WSTOPSIG(*status)));
        else say(", task %d\n", name_of((pid_t)message));
    } else {
        say("task %d: %s\n", name_of(pid), status_text(*status));
    }
    return pid;
}

static void go_on(pid_t pid, int sig) { CHECK(ptrace(PTRACE_CONT, pid, NULL, (long)sig) == 0); }

// Let a task go on to its death and see it.
static void see_off(pid_t pid) {
    int status;
    go_on(pid, 0);
    CHECK(report(pid, &status) == pid && !WIFSTOPPED(status));
}

static void follow_exec(pid_t leader, pid_t sleeper, pid_t caller) {
    int status;
    CHECK(report(leader, &status) == leader && status >> 16 == PTRACE_EVENT_EXIT);
    CHECK(report(sleeper, &status) == sleeper && status >> 16 == PTRACE_EVENT_EXIT);
    see_off(sleeper);
    go_on(leader, 0);
    // The caller has become the leader; the old one has vanished without a word.
    CHECK(report(leader, &status) == leader && status >> 16 == PTRACE_EVENT_EXEC);
    CHECK(message_of(leader) == (unsigned long)caller);
    CHECK_FAILS(ptrace(PTRACE_CONT, caller, NULL, NULL), ESRCH);
    go_on(leader, 0);
}

static void trace(pid_t leader) {
    int status, threads = 0;
    pid_t sleeper = 0;
    CHECK(report(leader, &status) == leader && WSTOPSIG(status) == SIGSTOP);
    CHECK(ptrace(PTRACE_SETOPTIONS, leader, NULL, (long)OPTIONS) == 0);
    go_on(leader, 0);
    for (;;) {
        pid_t pid = report(leader, &status);
        if (!WIFSTOPPED(status)) return;
        int event = status >> 16;
        if (event == PTRACE_EVENT_FORK || event == PTRACE_EVENT_VFORK || event == PTRACE_EVENT_CLONE) {
            int child_status;
            pid_t child = (pid_t)message_of(pid);
            CHECK(report(child, &child_status) == child && WSTOPSIG(child_status) == SIGSTOP);
            if (event == PTRACE_EVENT_CLONE && ++threads == 3) {
                // The leader first: a task that the exec kills in its stop cannot be continued.
                go_on(pid, 0);
                go_on(child, 0);
                follow_exec(pid, sleeper, child);
                continue;
            }
            go_on(pid, 0);
            go_on(child, 0);
            if (event == PTRACE_EVENT_CLONE && threads == 2) {
                sleeper = child;
                continue;
            }
            while (report(child, &child_status), child_status >> 16 != PTRACE_EVENT_EXIT)
                go_on(child, WSTOPSIG(child_status));
            see_off(child);
        } else {
            go_on(pid, event ? 0 : WSTOPSIG(status));
        }
    }
}

int main(int argc, char **argv) {
    if (argc > 1) {
        say("%s\n", argv[1]);
        return 7;
    }
    self_path();
    pid_t leader = fork();
    if (!leader) {
        CHECK(ptrace(PTRACE_TRACEME, 0, NULL, NULL) == 0);
        raise(SIGSTOP);
        tracee();
    }
    trace(leader);
    CHECK_FAILS(waitpid(-1, NULL, __WALL), ECHILD);
}
