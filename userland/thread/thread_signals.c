// Signals and threads: each has its own mask; one to the process goes to any that does not block it, one to a thread
// to that one only; handlers are common; a sigwait in one thread takes what all others block.
// concept: 6 signals
#include "thread.h"

static _Thread_local int mine = -1;
static atomic_int handled_by[4];
static atomic_bool stop;
static struct gate ready;

static void handler(int sig) {
    (void)sig;
    handled_by[mine]++;
}

static void mask(int how, int sig) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, sig);
    CHECK_PTHREAD(pthread_sigmask(how, &set, NULL));
}

static void *body(void *number) {
    mine = (int)(intptr_t)number;
    // Only number 2 lets SIGUSR1 in; all let SIGUSR2 in.
    mask(mine == 2 ? SIG_UNBLOCK : SIG_BLOCK, SIGUSR1);
    gate_open(ready);
    while (!stop) sleep_ms(1);
    return NULL;
}

static void *waits(void *unused) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    gate_open(ready);
    int sig;
    CHECK(sigwait(&set, &sig) == 0 && sig == SIGTERM);
    say("sigwait took the SIGTERM of the process\n");
    return unused;
}

int main(void) {
    ready = gate_new();
    mine = 0;
    struct sigaction action = {.sa_handler = handler};
    CHECK(sigaction(SIGUSR1, &action, NULL) == 0 && sigaction(SIGUSR2, &action, NULL) == 0);
    mask(SIG_BLOCK, SIGUSR1);
    mask(SIG_BLOCK, SIGTERM);
    pthread_t threads[4];
    for (intptr_t i = 1; i < 4; i++) threads[i] = start_thread(body, (void *)i);
    for (int i = 1; i < 4; i++) gate_wait(ready);

    for (int i = 0; i < 20; i++) {
        int before = handled_by[2];
        CHECK(kill(getpid(), SIGUSR1) == 0);
        while (handled_by[2] == before) sched_yield();
    }
    say("20 to the process: %d %d %d %d\n", handled_by[0], handled_by[1], handled_by[2], handled_by[3]);

    for (int i = 1; i < 4; i++) handled_by[i] = 0;
    for (int i = 0; i < 5; i++) {
        int before = handled_by[3];
        CHECK_PTHREAD(pthread_kill(threads[3], SIGUSR2));
        while (handled_by[3] == before) sched_yield();
    }
    say("5 to one thread: %d %d %d %d\n", handled_by[0], handled_by[1], handled_by[2], handled_by[3]);

    // The main thread prefers itself when it lets the signal in: kill of oneself is synchronous.
    CHECK(kill(getpid(), SIGUSR2) == 0 && handled_by[0] == 1);

    // To a thread that blocks it: pending there and nowhere else.
    sigset_t pending;
    CHECK_PTHREAD(pthread_kill(pthread_self(), SIGUSR1));
    CHECK(sigpending(&pending) == 0 && sigismember(&pending, SIGUSR1) && handled_by[2] == 0);
    mask(SIG_UNBLOCK, SIGUSR1);
    CHECK(handled_by[0] == 2);

    pthread_t waiter = start_thread(waits, NULL);
    gate_wait(ready);
    stop = true;
    for (int i = 1; i < 4; i++) CHECK_PTHREAD(pthread_join(threads[i], NULL));
    CHECK(kill(getpid(), SIGTERM) == 0);
    CHECK_PTHREAD(pthread_join(waiter, NULL));

    // The default action of a signal to one thread is for the whole process.
    pid_t pid = fork();
    if (pid == 0) {
        stop = false;
        signal(SIGUSR2, SIG_DFL);
        mine = 0;
        pthread_t thread = start_thread(body, (void *)1);
        gate_wait(ready);
        pthread_kill(thread, SIGUSR2);
        for (;;) pause();
    }
    say("default action: %s\n", status_text(status_of(pid)));
    return 0;
}
