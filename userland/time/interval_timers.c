// The three interval timers and alarm: real time, user time, user and system time; what is left of them; a child has
// none, an exec keeps the real one; RLIMIT_CPU sends SIGXCPU each second and SIGKILL at the end.
// concept: 6 signals
// run: => 0
// qemu: no (it cannot execute a foreign binary without binfmt_misc)
#include "self.h"

static volatile sig_atomic_t counts[65];

static void count(int sig) {
    counts[sig]++;
}

static void start(int which, long value_us, long interval_us) {
    struct itimerval timer = {{interval_us / 1000000, interval_us % 1000000}, {value_us / 1000000, value_us % 1000000}};
    CHECK(setitimer(which, &timer, NULL) == 0);
}

static void burn_until(int sig, int wanted) {
    while (counts[sig] < wanted)
        for (volatile int i = 0; i < 10000; i++) continue;
}

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "after-exec") == 0) {
        struct itimerval timer;
        CHECK(getitimer(ITIMER_REAL, &timer) == 0);
        CHECK(timer.it_value.tv_sec >= 900 && timer.it_interval.tv_sec == 7);
        say("kept by exec\n");
        return 0;
    }
    (void)self_path();
    for (int sig = 1; sig < 65; sig++) {
        struct sigaction action = {.sa_handler = count};
        if (sig == SIGALRM || sig == SIGVTALRM || sig == SIGPROF || sig == SIGXCPU)
            CHECK(sigaction(sig, &action, NULL) == 0);
    }

    struct itimerval timer;
    CHECK(getitimer(ITIMER_REAL, &timer) == 0 && timer.it_value.tv_sec == 0 && timer.it_value.tv_usec == 0);
    start(ITIMER_REAL, 20000, 20000);
    while (counts[SIGALRM] < 3) pause();
    start(ITIMER_REAL, 0, 5000);
    CHECK(getitimer(ITIMER_REAL, &timer) == 0 && timer.it_value.tv_usec == 0 && timer.it_interval.tv_usec == 0);
    say("real\n");

    int64_t began = now_ns(CLOCK_PROCESS_CPUTIME_ID);
    start(ITIMER_VIRTUAL, 30000, 30000);
    burn_until(SIGVTALRM, 2);
    start(ITIMER_VIRTUAL, 0, 0);
    CHECK(now_ns(CLOCK_PROCESS_CPUTIME_ID) - began >= 30000000);  // Linux samples user time at its ticks
    say("virtual\n");

    began = now_ns(CLOCK_PROCESS_CPUTIME_ID);
    start(ITIMER_PROF, 50000, 0);
    CHECK(getitimer(ITIMER_PROF, &timer) == 0 && timer.it_value.tv_usec > 0 && timer.it_interval.tv_usec == 0);
    sleep_ms(60);
    CHECK(counts[SIGPROF] == 0);
    burn_until(SIGPROF, 1);
    CHECK(now_ns(CLOCK_PROCESS_CPUTIME_ID) - began >= 25000000);
    CHECK(getitimer(ITIMER_PROF, &timer) == 0 && timer.it_value.tv_usec == 0);
    say("profile\n");

    CHECK(alarm(100) == 0);
    CHECK(alarm(0) == 100 && alarm(0) == 0);
    CHECK_FAILS(getitimer(3, &timer), EINVAL);
    timer = (struct itimerval){{0, 0}, {0, 1000000}};
    CHECK_FAILS(setitimer(ITIMER_REAL, &timer, NULL), EINVAL);

    start(ITIMER_REAL, 1000000000, 7000000);
    pid_t pid = fork();
    if (pid == 0) {
        CHECK(getitimer(ITIMER_REAL, &timer) == 0 && timer.it_value.tv_sec == 0);
        // One second of processor time is allowed softly, two at all. The soft limit moves with every signal.
        struct rlimit limit = {1, 2};
        CHECK(setrlimit(RLIMIT_CPU, &limit) == 0);
        burn_until(SIGXCPU, 1);
        CHECK(getrlimit(RLIMIT_CPU, &limit) == 0 && limit.rlim_cur == 2);
        burn_until(SIGXCPU, 99);
        _exit(0);
    }
    int status = status_of(pid);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    say("processor limit\n");
    exec_self("after-exec", NULL);
}
