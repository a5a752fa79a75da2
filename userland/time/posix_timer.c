// POSIX timers: the signal carries value and timer id; what a blocked process missed comes as overruns; a signal to one
// thread; a timer that tells nobody; one on the processor time of the process; and every refusal.
// concept: 6 signals
#include "check.h"

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

static timer_t make(clockid_t clock, int notify, int sig, int value, pid_t tid) {
    struct sigevent event = {.sigev_notify = notify, .sigev_signo = sig, .sigev_value.sival_int = value};
    if (notify == SIGEV_THREAD_ID) event.sigev_notify_thread_id = tid;
    timer_t timer;
    CHECK(timer_create(clock, &event, &timer) == 0);
    return timer;
}

static void arm(timer_t timer, int flags, int64_t value_ns, int64_t interval_ns) {
    struct itimerspec spec = {{interval_ns / 1000000000, interval_ns % 1000000000},
                              {value_ns / 1000000000, value_ns % 1000000000}};
    CHECK(timer_settime(timer, flags, &spec, NULL) == 0);
}

static int64_t left_ns(timer_t timer) {
    struct itimerspec spec;
    CHECK(timer_gettime(timer, &spec) == 0);
    return spec.it_value.tv_sec * 1000000000LL + spec.it_value.tv_nsec;
}

static siginfo_t take(int sig) {
    sigset_t set;
    siginfo_t info;
    sigemptyset(&set);
    sigaddset(&set, sig);
    CHECK(sigtimedwait(&set, &info, &(struct timespec){5, 0}) == sig);
    return info;
}

static void *wait_in_thread(void *unused) {
    (void)unused;
    timer_t timer = make(CLOCK_MONOTONIC, SIGEV_THREAD_ID, SIGRTMIN + 3, 9, (pid_t)syscall(SYS_gettid));
    arm(timer, 0, 20000000, 0);
    siginfo_t info = take(SIGRTMIN + 3);
    CHECK(info.si_code == SI_TIMER && info.si_value.sival_int == 9);
    CHECK(timer_delete(timer) == 0);
    return NULL;
}

int main(void) {
    sigset_t all;
    sigfillset(&all);
    CHECK(sigprocmask(SIG_BLOCK, &all, NULL) == 0);

    timer_t once = make(CLOCK_MONOTONIC, SIGEV_SIGNAL, SIGRTMIN + 1, 42, 0);
    CHECK(left_ns(once) == 0);
    arm(once, 0, 30000000, 0);
    CHECK(left_ns(once) > 0 && left_ns(once) <= 30000000);
    siginfo_t info = take(SIGRTMIN + 1);
    CHECK(info.si_code == SI_TIMER && info.si_value.sival_int == 42 && info.si_overrun == 0);
    CHECK(left_ns(once) == 0 && timer_getoverrun(once) == 0);
    say("once\n");

    // Blocked for ten periods: one signal, and the others are overruns.
    timer_t often = make(CLOCK_REALTIME, SIGEV_SIGNAL, SIGUSR1, 7, 0);
    arm(often, 0, 10000000, 10000000);
    sleep_ms(105);
    info = take(SIGUSR1);
    CHECK(info.si_overrun >= 8 && timer_getoverrun(often) == info.si_overrun);
    info = take(SIGUSR1);
    CHECK(info.si_overrun <= 2 && info.si_value.sival_int == 7);
    arm(often, 0, 0, 0);
    CHECK(left_ns(often) == 0);
    say("overruns\n");

    // An absolute moment that is over expires at once.
    arm(once, TIMER_ABSTIME, 1, 0);
    take(SIGRTMIN + 1);
    int64_t soon = now_ns(CLOCK_MONOTONIC) + 20000000;
    arm(once, TIMER_ABSTIME, soon, 0);
    take(SIGRTMIN + 1);
    CHECK(now_ns(CLOCK_MONOTONIC) >= soon);
    say("absolute\n");

    timer_t silent = make(CLOCK_MONOTONIC, SIGEV_NONE, 0, 0, 0);
    arm(silent, 0, 1000000000, 1000000000);
    CHECK(left_ns(silent) > 0);
    say("silent\n");

    pthread_t thread;
    CHECK_PTHREAD(pthread_create(&thread, NULL, wait_in_thread, NULL));
    CHECK_PTHREAD(pthread_join(thread, NULL));
    say("one thread\n");

    timer_t cpu = make(CLOCK_PROCESS_CPUTIME_ID, SIGEV_SIGNAL, SIGRTMIN + 2, 3, 0);
    int64_t used = now_ns(CLOCK_PROCESS_CPUTIME_ID);
    arm(cpu, 0, 50000000, 0);
    sigset_t pending;
    do {
        for (volatile int i = 0; i < 100000; i++) continue;
        sigpending(&pending);
    } while (!sigismember(&pending, SIGRTMIN + 2));
    CHECK(now_ns(CLOCK_PROCESS_CPUTIME_ID) - used >= 50000000);
    CHECK(take(SIGRTMIN + 2).si_value.sival_int == 3);
    say("processor time\n");

    // Without an event: SIGALRM, with the id as its value.
    timer_t plain;
    CHECK(timer_create(CLOCK_BOOTTIME, NULL, &plain) == 0);
    arm(plain, 0, 1000000, 0);
    CHECK(take(SIGALRM).si_code == SI_TIMER);
    say("no event\n");

    timer_t none;
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = 65};
    CHECK_FAILS(timer_create(CLOCK_MONOTONIC, &event, &none), EINVAL);
    event = (struct sigevent){.sigev_notify = 77, .sigev_signo = SIGUSR1};
    CHECK_FAILS(timer_create(CLOCK_MONOTONIC, &event, &none), EINVAL);
    event = (struct sigevent){.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGUSR1, .sigev_notify_thread_id = 1};
    CHECK_FAILS(timer_create(CLOCK_MONOTONIC, &event, &none), EINVAL);
    CHECK_FAILS(timer_create(77, NULL, &none), EINVAL);
    CHECK_FAILS(timer_create(CLOCK_MONOTONIC_COARSE, NULL, &none), EOPNOTSUPP);
    struct itimerspec bad = {{0, 0}, {0, 1000000000}};
    CHECK_FAILS(timer_settime(once, 0, &bad, NULL), EINVAL);
    CHECK(timer_delete(plain) == 0);
    CHECK_FAILS(syscall(SYS_timer_delete, 12345), EINVAL);

    // A child has none of them.
    pid_t pid = fork();
    if (pid == 0) {
        struct itimerspec spec;
        _exit(syscall(SYS_timer_gettime, 0, &spec) == -1 && errno == EINVAL ? 0 : 1);
    }
    CHECK(status_of(pid) == 0);
    say("refusals\n");
    return 0;
}
