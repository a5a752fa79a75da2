// The parent hears of a child's stop and continue by SIGCHLD with CLD_STOPPED and CLD_CONTINUED, unless SA_NOCLDSTOP.
// concept: 6 signals
// qemu: no (it does not pass SA_NOCLDSTOP on)
#include "check.h"

static volatile sig_atomic_t codes[8], statuses[8], count;

static void handler(int sig, siginfo_t *info, void *context) {
    (void)sig, (void)context;
    if (count < 8) codes[count] = info->si_code, statuses[count] = info->si_status, count++;
}

// One SIGCHLD that has not been handled yet swallows the next: wait for each.
static void heard(int news, int flags) {
    while (!flags && count < news) sleep_ms(1);
}

static void try(const char *label, int flags) {
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | flags};
    CHECK(sigaction(SIGCHLD, &action, NULL) == 0);
    count = 0;
    pid_t pid = fork();
    if (pid == 0)
        for (;;) pause();
    int status;
    CHECK(kill(pid, SIGSTOP) == 0);
    while (waitpid(pid, &status, WUNTRACED) == -1) CHECK(errno == EINTR);
    heard(1, flags);
    CHECK(kill(pid, SIGCONT) == 0);
    while (waitpid(pid, &status, WCONTINUED) == -1) CHECK(errno == EINTR);
    heard(2, flags);
    CHECK(kill(pid, SIGTERM) == 0);
    CHECK(status_of(pid) == SIGTERM);
    say("%s:", label);
    static const char *const names[] = {"0", "CLD_EXITED", "CLD_KILLED", "CLD_DUMPED", "CLD_TRAPPED", "CLD_STOPPED",
                                        "CLD_CONTINUED"};
    for (int i = 0; i < count; i++) say(" %s/%s", names[codes[i]], signal_name(statuses[i]));
    say("\n");
}

int main(void) {
    try("all", 0);
    try("SA_NOCLDSTOP", SA_NOCLDSTOP);
    return 0;
}
