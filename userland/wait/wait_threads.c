// The threads of a process wait for each other's children, unless __WNOTHREAD; a thread that ends leaves its children
// to a sibling, so that getppid does not change for them and they can still be waited for.
// concept: 4 exit_notify: the family
#include "thread.h"

static struct gate forked, go;
static pid_t child;

static void *forks(void *unused) {
    child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        gate_wait(go);
        _exit(31);
    }
    gate_open(forked);
    return unused;
}

static void *forks_and_waits(void *unused) {
    forks(unused);
    int status;
    CHECK(waitpid(child, &status, __WNOTHREAD) == child && status == 31 << 8);
    return unused;
}

int main(void) {
    forked = gate_new();
    go = gate_new();
    int status;

    // A sibling's child is not mine with __WNOTHREAD, although it is the process's.
    pthread_t thread = start_thread(forks_and_waits, NULL);
    gate_wait(forked);
    CHECK_FAILS(waitpid(child, &status, __WNOTHREAD | WNOHANG), ECHILD);
    CHECK(waitpid(child, &status, WNOHANG) == 0);
    gate_open(go);
    CHECK_PTHREAD(pthread_join(thread, NULL));
    say("__WNOTHREAD: own children only\n");

    // The thread that forked is gone: its child is that of the process still.
    thread = start_thread(forks, NULL);
    gate_wait(forked);
    CHECK_PTHREAD(pthread_join(thread, NULL));
    CHECK(waitpid(child, &status, WNOHANG) == 0);
    gate_open(go);
    CHECK(waitpid(child, &status, 0) == child && status == 31 << 8);
    say("the child of a thread that is gone: %s\n", status_text(status));

    // Two threads wait at once: each child is reaped by one of them.
    enum { CHILDREN = 20 };
    struct gate start = gate_new();
    pid_t pid = fork();
    if (pid == 0) {
        for (int i = 0; i < CHILDREN; i++) {
            pid_t one = fork();
            if (one == 0) {
                gate_wait(start);
                _exit(i);
            }
        }
        extern void *reaps(void *sum);
        static int sums[2];
        pthread_t threads[2] = {start_thread(reaps, &sums[0]), start_thread(reaps, &sums[1])};
        for (int i = 0; i < CHILDREN; i++) gate_open(start);
        for (int i = 0; i < 2; i++) CHECK_PTHREAD(pthread_join(threads[i], NULL));
        CHECK(sums[0] + sums[1] == CHILDREN * (CHILDREN - 1) / 2);
        _exit(0);
    }
    CHECK(status_of(pid) == 0);
    say("each of %d children reaped once\n", CHILDREN);
    return 0;
}

void *reaps(void *sum) {
    int status;
    while (waitpid(-1, &status, 0) > 0) *(int *)sum += WEXITSTATUS(status);
    CHECK(errno == ECHILD);
    return NULL;
}
