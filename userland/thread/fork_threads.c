// fork by a thread of a process with several: the child has that thread only, as its leader, with the tid of the new
// process; pthread_atfork handlers run in order; the child can make threads itself and exec.
// concept: 1 who is who
#include "thread.h"

static atomic_long counter;
static pid_t main_pid;

static void before(void) { say("prepare\n"); }
static void in_parent(void) { say("parent\n"); }
static void in_child(void) {
    CHECK(getppid() == main_pid);
}

static void *counts(void *unused) {
    for (;;) {
        counter++;
        sched_yield();
    }
    return unused;
}

static void *returns(void *argument) { return argument; }

static void *forks(void *unused) {
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        // This thread is the leader now, and nobody counts any more.
        CHECK(gettid() == getpid() && getpid() != main_pid);
        long seen = counter;
        sleep_ms(20);
        CHECK(counter == seen);
        void *result;
        pthread_t thread = start_thread(returns, (void *)5);
        CHECK_PTHREAD(pthread_join(thread, &result));
        CHECK(result == (void *)5);
        exit(6);
    }
    say("child of a thread: %s\n", status_text(status_of(pid)));
    return unused;
}

int main(void) {
    main_pid = getpid();
    CHECK_PTHREAD(pthread_atfork(before, in_parent, in_child));
    for (int i = 0; i < 3; i++) start_thread(counts, NULL);
    while (counter < 100) sched_yield();
    for (int i = 0; i < 3; i++) CHECK_PTHREAD(pthread_join(start_thread(forks, NULL), NULL));
    long seen = counter;
    while (counter == seen) sched_yield();
    say("the parent's threads go on\n");
    return 0;
}
