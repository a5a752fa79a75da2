// exit_group from the third of three threads ends the process at once, with that thread's status, although the
// others are blocked.
// concept: 2 two ways out
// run: => 33
#include "check.h"

static struct gate second_runs, never;

static void *second(void *unused) {
    gate_open(second_runs);
    gate_wait(never);
    say("the second thread must not return\n");
    return unused;
}

static void *third(void *unused) {
    gate_wait(second_runs);
    say("third thread: exit_group(33)\n");
    syscall(SYS_exit_group, 33);
    return unused;
}

int main(void) {
    second_runs = gate_new();
    never = gate_new();
    pthread_t threads[2];
    CHECK_PTHREAD(pthread_create(&threads[0], NULL, second, NULL));
    CHECK_PTHREAD(pthread_create(&threads[1], NULL, third, NULL));
    pthread_join(threads[0], NULL);
    say("the leader must not return\n");
    return 1;
}
