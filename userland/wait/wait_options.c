// The options: WNOHANG does not wait, WNOWAIT leaves the child waitable, WUNTRACED and WCONTINUED tell of stops and
// continues, each once; waitid fills its siginfo exactly.
// concept: 5 wait4, waitid, waitpid
// qemu: no (it keeps stop signals to itself)
#include "check.h"

static const char *code_name(int code) {
    static const char *const names[] = {"0", "CLD_EXITED", "CLD_KILLED", "CLD_DUMPED", "CLD_TRAPPED", "CLD_STOPPED",
                                        "CLD_CONTINUED"};
    return names[code];
}

static void ask(const char *label, pid_t pid, int options) {
    siginfo_t info;
    memset(&info, 0x55, sizeof info);
    int result = waitid(P_PID, pid, &info, options);
    if (result == -1) {
        say("%s: %s\n", label, errno_name(errno));
        return;
    }
    if (info.si_pid == 0) {
        CHECK(info.si_signo == 0 && info.si_code == 0 && info.si_status == 0 && info.si_errno == 0);
        say("%s: nothing\n", label);
        return;
    }
    CHECK(info.si_signo == SIGCHLD && info.si_errno == 0 && info.si_pid == pid && info.si_uid == getuid());
    say("%s: %s %d\n", label, code_name(info.si_code), info.si_status);
}

int main(void) {
    struct gate go = gate_new();
    pid_t pid = fork();
    if (pid == 0) {
        gate_wait(go);
        _exit(23);
    }
    int status = 0x1234;
    ask("running", pid, WEXITED | WSTOPPED | WCONTINUED | WNOHANG);
    CHECK(waitpid(pid, &status, WNOHANG | WUNTRACED | WCONTINUED) == 0 && status == 0x1234);

    CHECK(kill(pid, SIGSTOP) == 0);
    ask("stopped, looked at", pid, WSTOPPED | WNOWAIT);
    ask("stopped, not asked for", pid, WEXITED | WNOHANG);
    ask("stopped", pid, WSTOPPED);
    ask("stopped, told already", pid, WSTOPPED | WNOHANG);
    CHECK(kill(pid, SIGCONT) == 0);
    ask("continued, looked at", pid, WCONTINUED | WNOWAIT);
    ask("continued", pid, WCONTINUED);
    ask("continued, told already", pid, WCONTINUED | WNOHANG);

    CHECK(kill(pid, SIGSTOP) == 0);
    CHECK(waitpid(pid, &status, WUNTRACED) == pid && status == (SIGSTOP << 8 | 0x7f));
    say("status of a stop %#x\n", status);
    CHECK(kill(pid, SIGCONT) == 0);
    CHECK(waitpid(pid, &status, WCONTINUED) == pid && status == 0xffff);
    say("status of a continue %#x\n", status);
    // The other stop signals carry their own number, when the group is not orphaned.
    CHECK(setpgid(pid, pid) == 0 && kill(pid, SIGTSTP) == 0);
    CHECK(waitpid(pid, &status, WUNTRACED) == pid && status == (SIGTSTP << 8 | 0x7f));
    CHECK(kill(pid, SIGCONT) == 0);
    // Not asked for at this time, and then no news any more: a stop and a continue replace one another.
    CHECK(waitpid(pid, &status, WNOHANG | WUNTRACED) == 0);
    gate_open(go);

    ask("ended, looked at", pid, WEXITED | WNOWAIT);
    ask("ended, looked at again", pid, WEXITED | WNOWAIT);
    ask("ended, not asked for", pid, WSTOPPED | WCONTINUED | WNOHANG);
    CHECK(kill(pid, 0) == 0);
    ask("ended", pid, WEXITED | WNOHANG);
    ask("reaped", pid, WEXITED | WNOHANG);
    CHECK_FAILS(kill(pid, 0), ESRCH);

    static const int signals[] = {SIGTERM, SIGKILL, SIGHUP, SIGUSR1, SIGALRM, SIGPIPE};
    for (size_t i = 0; i < COUNT(signals); i++) {
        pid = fork();
        if (pid == 0) {
            signal(signals[i], SIG_DFL);
            raise(signals[i]);
            _exit(0);
        }
        ask("killed, looked at", pid, WEXITED | WNOWAIT);
        CHECK(waitpid(pid, &status, 0) == pid && status == signals[i]);
    }
    // NULL for what one does not want to know.
    pid = fork();
    if (pid == 0) _exit(0);
    CHECK(syscall(SYS_waitid, P_PID, pid, NULL, WEXITED, NULL) == 0);
    pid = fork();
    if (pid == 0) _exit(0);
    CHECK(wait(NULL) == pid);
    return 0;
}
