// Interval timers and POSIX timers: once and repeated, how much is left, overruns, signals to a thread; of the
// processor's time too; not inherited by fork.
#include "check.h"

#ifndef SIGEV_THREAD_ID
#define SIGEV_THREAD_ID 4
#endif

static volatile sig_atomic_t count, value, overrun_seen;
static pid_t handled_by;

static void handler(int sig, siginfo_t *info, void *context) {
    (void)sig, (void)context;
    count++;
    handled_by = (pid_t)syscall(SYS_gettid);
    value = info->si_value.sival_int;
    overrun_seen += info->si_code == SI_TIMER ? info->si_overrun : 0;
}

static void wait_for(int wanted) {
    while (count < wanted) sleep_ms(1);
}

int main(void) {
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};
    int signals[] = {SIGALRM, SIGVTALRM, SIGPROF, SIGRTMIN};
    for (size_t i = 0; i < COUNT(signals); i++) CHECK(sigaction(signals[i], &action, NULL) == 0);

    CHECK(alarm(100) == 0 && alarm(50) >= 99 && alarm(0) >= 49 && alarm(0) == 0);
    struct itimerval time = {{0, 5000}, {0, 5000}}, old, off = {{0, 0}, {0, 0}};
    CHECK(setitimer(ITIMER_REAL, &time, NULL) == 0);
    wait_for(3);
    CHECK(setitimer(ITIMER_REAL, &off, &old) == 0 && old.it_interval.tv_usec == 5000 && old.it_value.tv_usec <= 5000);
    say("ITIMER_REAL repeats\n");

    static const int kinds[] = {ITIMER_VIRTUAL, ITIMER_PROF};
    for (int i = 0; i < 2; i++) {
        count = 0;
        CHECK(setitimer(kinds[i], &time, NULL) == 0);
        while (count < 2) continue;
        CHECK(setitimer(kinds[i], &off, NULL) == 0);
    }
    say("of the processor's time too\n");

    timer_t timer;
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN, .sigev_value.sival_int = 17};
    CHECK(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0);
    struct itimerspec spec = {{0, 0}, {100, 0}}, now;
    CHECK(timer_settime(timer, 0, &spec, NULL) == 0 && timer_gettime(timer, &now) == 0);
    CHECK(now.it_value.tv_sec >= 90 && now.it_value.tv_sec <= 100 && now.it_interval.tv_sec == 0);
    count = 0;
    spec = (struct itimerspec){{0, 0}, {0, 5000000}};
    CHECK(timer_settime(timer, 0, &spec, &now) == 0 && now.it_value.tv_sec >= 90);
    wait_for(1);
    CHECK(value == 17 && timer_gettime(timer, &now) == 0 && now.it_value.tv_nsec == 0);
    say("timer_create: once\n");

    // While the signal is blocked it is pending once; the rest are overruns.
    sigset_t set, before;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN);
    CHECK(sigprocmask(SIG_BLOCK, &set, &before) == 0);
    count = 0, overrun_seen = 0;
    spec = (struct itimerspec){{0, 2000000}, {0, 2000000}};
    CHECK(timer_settime(timer, 0, &spec, NULL) == 0);
    sleep_ms(50);
    CHECK(sigprocmask(SIG_SETMASK, &before, NULL) == 0 && count >= 1 && overrun_seen >= 20);
    CHECK(timer_getoverrun(timer) >= 0);
    pid_t pid = fork();
    if (pid == 0) {
        CHECK_FAILS(syscall(SYS_timer_gettime, 0, &now), EINVAL);
        CHECK(getitimer(ITIMER_REAL, &old) == 0 && old.it_value.tv_usec == 0 && old.it_value.tv_sec == 0);
        _exit(0);
    }
    CHECK(status_of(pid) == 0 && timer_delete(timer) == 0);
    say("overruns are counted; a child has no timers\n");

    // To one thread, at an absolute time.
    memset(&event, 0, sizeof event);
    event.sigev_notify = SIGEV_THREAD_ID, event.sigev_signo = SIGRTMIN;
    // The thread's id has no portable name; it is the first member of the union, in both libraries.
    pid_t me = gettid();
    memcpy((char *)&event + 16, &me, sizeof me);
    int id;
    CHECK(syscall(SYS_timer_create, CLOCK_MONOTONIC, &event, &id) == 0);
    CHECK(clock_gettime(CLOCK_MONOTONIC, &spec.it_value) == 0);
    spec.it_interval.tv_nsec = 0;
    count = 0;
    CHECK(syscall(SYS_timer_settime, id, TIMER_ABSTIME, &spec, NULL) == 0);
    wait_for(1);
    CHECK(handled_by == me && syscall(SYS_timer_delete, id) == 0);
    CHECK_FAILS(syscall(SYS_timer_delete, id), EINVAL);
    CHECK_FAILS(syscall(SYS_timer_create, 99, NULL, &id), EINVAL);
    CHECK_FAILS(setitimer(9, &time, NULL), EINVAL);
    time.it_value.tv_usec = 1000000;
    CHECK_FAILS(setitimer(ITIMER_REAL, &time, NULL), EINVAL);
    say("to a thread, at a time\n");
    return 0;
}
