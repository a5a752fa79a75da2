// A tracer follows fork, vfork, clone, exec and exit: an event stop in the parent with the new task's id, a stop of
// the new task, an exec stop that knows the former tid, an exit stop with the status to come.
// concept: 8 ptrace
// qemu: no (it has no ptrace)
#include "self.h"
#include "thread.h"
#include "trace.h"

static void *thread(void *unused) { return unused; }

static struct gate go;

static void *executes(void *unused) {
    gate_wait(go);
    exec_self("executed", NULL);
    return unused;
}

static void tracee(void) {
    raise(SIGSTOP);
    pid_t pid = fork();
    if (pid == 0) _exit(3);
    status_of(pid);
    pid = vfork();
    if (pid == 0) _exit(4);
    status_of(pid);
    CHECK_PTHREAD(pthread_join(start_thread(thread, NULL), NULL));
    // The exec must not come while this thread is still in its stop for the clone.
    go = gate_new();
    start_thread(executes, NULL);
    gate_open(go);
    for (;;) pause();
}

// Show all stops of one task until the next one that is of interest; others may come between, so each task's own
// stops are collected and shown at the end.
static char story[8][1024];

static void tell(pid_t pid, const char *text) {
    int number = atoi(task_name(pid) + 5);
    CHECK(number < 8);
    snprintf(story[number] + strlen(story[number]), sizeof story[number] - strlen(story[number]), "  %s\n", text);
}

int main(int argc, char **argv) {
    (void)argv;
    if (argc > 1) return 5;
    self_path();
    pid_t first = fork();
    if (first == 0) {
        CHECK(ptrace(PTRACE_TRACEME, 0, 0, 0) == 0);
        tracee();
    }
    CHECK(WSTOPSIG(next_stop(first)) == SIGSTOP);
    task_name(first);
    CHECK(ptrace(PTRACE_SETOPTIONS, first, 0,
                 PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC |
                     PTRACE_O_TRACEVFORKDONE | PTRACE_O_TRACEEXIT | PTRACE_O_EXITKILL) == 0);
    CHECK(ptrace(PTRACE_CONT, first, 0, 0) == 0);
    int status;
    for (pid_t pid; (pid = waitpid(-1, &status, __WALL)) > 0;) {
        char text[160];
        unsigned event = WIFSTOPPED(status) ? (unsigned)status >> 16 : 0;
        int deliver = 0;
        if (event == PTRACE_EVENT_FORK || event == PTRACE_EVENT_VFORK || event == PTRACE_EVENT_CLONE ||
            event == PTRACE_EVENT_VFORK_DONE) {
            pid_t child = (pid_t)event_message(pid);
            snprintf(text, sizeof text, "%s: %s", stop_text(status), task_name(child));
        } else if (event == PTRACE_EVENT_EXEC) {
            snprintf(text, sizeof text, "%s, it was %s", stop_text(status), task_name((pid_t)event_message(pid)));
        } else if (event == PTRACE_EVENT_EXIT) {
            snprintf(text, sizeof text, "%s: %s", stop_text(status), status_text((int)event_message(pid)));
        } else {
            snprintf(text, sizeof text, "%s", stop_text(status));
            if (WIFSTOPPED(status) && WSTOPSIG(status) != SIGSTOP) deliver = WSTOPSIG(status);
        }
        tell(pid, text);
        if (WIFSTOPPED(status)) CHECK(ptrace(PTRACE_CONT, pid, 0, (uintptr_t)deliver) == 0);
    }
    CHECK(errno == ECHILD);
    for (int i = 0; i < trace_count; i++) say("task %d:\n%s", i, story[i]);
    return 0;
}
