// What siginfo says of each kind of sender: kill, tgkill, sigqueue, a timer, a dead child.
// concept: 6 signals
#include "fault.h"

static siginfo_t last;
static volatile sig_atomic_t arrived;

static void handler(int sig, siginfo_t *info, void *context) {
    (void)sig, (void)context;
    last = *info;
    arrived = 1;
}

static void expect(const char *label) {
    while (!arrived) sleep_ms(1);
    arrived = 0;
    CHECK(last.si_errno == 0);
    say("%s: %s %s\n", label, signal_name(last.si_signo), fault_code_name(last.si_signo, last.si_code));
}

int main(void) {
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};
    int signals[] = {SIGUSR1, SIGALRM, SIGRTMIN + 3, SIGCHLD};
    for (size_t i = 0; i < COUNT(signals); i++) CHECK(sigaction(signals[i], &action, NULL) == 0);
    pid_t me = getpid();

    CHECK(kill(me, SIGUSR1) == 0);
    expect("kill");
    CHECK(last.si_pid == me && last.si_uid == getuid());
    CHECK(raise(SIGUSR1) == 0);
    expect("raise");
    CHECK(last.si_pid == me && last.si_uid == getuid());
    union sigval value = {.sival_ptr = &last};
    CHECK(sigqueue(me, SIGRTMIN + 3, value) == 0);
    expect("sigqueue");
    CHECK(last.si_pid == me && last.si_value.sival_ptr == &last);

    struct itimerval once = {{0, 0}, {0, 1000}};
    CHECK(setitimer(ITIMER_REAL, &once, NULL) == 0);
    expect("setitimer");
    timer_t timer;
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN + 3, .sigev_value.sival_int = 99};
    struct itimerspec spec = {{0, 0}, {0, 1000000}};
    CHECK(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0 && timer_settime(timer, 0, &spec, NULL) == 0);
    expect("timer_create");
    CHECK(last.si_value.sival_int == 99 && last.si_overrun == 0);
    CHECK(timer_delete(timer) == 0);

    pid_t pid = fork();
    if (pid == 0) {
        // Some time of the processor, to be told in the news of the death.
        while (now_ns(CLOCK_PROCESS_CPUTIME_ID) < 150000000) continue;
        _exit(3);
    }
    while (!arrived) sleep_ms(1);
    arrived = 0;
    CHECK(last.si_code == CLD_EXITED && last.si_pid == pid && last.si_status == 3 && last.si_uid == getuid());
    CHECK(last.si_utime + last.si_stime >= 1);
    CHECK(status_of(pid) == 3 << 8);
    say("child: SIGCHLD CLD_EXITED\n");
    pid = fork();
    if (pid == 0) {
        kill(me, SIGUSR1);
        _exit(0);
    }
    CHECK(status_of(pid) == 0);
    CHECK(arrived && (last.si_signo == SIGUSR1 || last.si_signo == SIGCHLD) && last.si_pid == pid);
    return 0;
}
