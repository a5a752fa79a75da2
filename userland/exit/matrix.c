// Every pair of (how the leader ends, how another thread ends), who is first, with and without a third thread, and
// how the parent hears of it: the status word is the kernel's. Arguments: the parent's way, then none or one case
// "LEADER,OTHER,FIRST,THREADS".
// concept: 2 two ways out
// run: wait4 => 0
// run: waitid => 0
// run: signalfd => 0
// run: pidfd => 0
// run: ignore => 0
// qemu: no (it cannot execute a foreign binary without binfmt_misc)
#include "self.h"
#include "thread.h"
#include <poll.h>
#include <sys/signalfd.h>

#ifndef P_PIDFD
#define P_PIDFD 3
#endif

enum way { RETURN, EXIT, THREAD_EXIT, GROUP_EXIT, SIGNAL, EXECVE, WAYS };
static const char *const way_names[] = {"return", "exit", "thread_exit", "exit_group", "signal", "execve"};

static uint32_t leader_alive, other_alive;
static enum way other_way;
static bool leader_first;
static struct gate started, all_started;

// End the calling task; a return from main or from a thread's function is up to the caller.
static void end(enum way way, int code) {
    if (way == EXIT) exit(code);
    if (way == THREAD_EXIT) thread_exit(code);
    if (way == GROUP_EXIT) syscall(SYS_exit_group, code);
    if (way == SIGNAL) syscall(SYS_tgkill, getpid(), gettid(), code < 20 ? SIGTERM : SIGINT);
    if (way == EXECVE) exec_self("exit", code < 20 ? "16" : "26");
}

static void *other(void *unused) {
    announce_death(&other_alive);
    gate_open(started);
    // No library ends a thread well while it makes another one and the thread's own word is not the library's.
    gate_wait(all_started);
    if (leader_first) await_death(&leader_alive);
    end(other_way, 20 + (int)other_way);
    // The C library's own end of a thread needs its own clear_child_tid only for joins, which nobody does.
    return unused;
}

static void *third(void *unused) {
    gate_open(started);
    await_death(&leader_alive);
    await_death(&other_alive);
    thread_exit(33);
    return unused;
}

// What main returns when the leader ends by return.
static int child(enum way leader, enum way way_of_other, bool first, int threads) {
    other_way = way_of_other, leader_first = first;
    started = gate_new();
    all_started = gate_new();
    announce_death(&leader_alive);
    if (threads > 1) start_thread(other, NULL);
    if (threads > 2) start_thread(third, NULL);
    for (int i = 1; i < threads; i++) gate_wait(started);
    gate_open(all_started);
    if (!first) await_death(&other_alive);
    end(leader, 10 + (int)leader);
    return 10 + (int)leader;
}

static void hear(const char *parent, pid_t pid, const char *label) {
    int status = 0;
    siginfo_t info = {0};
    if (strcmp(parent, "signalfd") == 0) {
        sigset_t set;
        sigemptyset(&set);
        sigaddset(&set, SIGCHLD);
        struct signalfd_siginfo news;
        int fd = signalfd(-1, &set, SFD_CLOEXEC);
        CHECK(fd >= 0 && read(fd, &news, sizeof news) == sizeof news && close(fd) == 0);
        CHECK(news.ssi_signo == SIGCHLD && (pid_t)news.ssi_pid == pid && news.ssi_uid == getuid());
        CHECK(waitpid(pid, &status, WNOHANG) == pid);
        say("%s: code %d status %d, %#06x\n", label, news.ssi_code, news.ssi_status, status);
    } else if (strcmp(parent, "pidfd") == 0) {
        int fd = (int)syscall(SYS_pidfd_open, pid, 0);
        CHECK(fd >= 0 && poll(&(struct pollfd){fd, POLLIN, 0}, 1, -1) == 1);
        CHECK(waitid((idtype_t)P_PIDFD, (id_t)fd, &info, WEXITED | WNOHANG) == 0 && close(fd) == 0);
        say("%s: code %d status %d\n", label, info.si_code, info.si_status);
    } else if (strcmp(parent, "waitid") == 0) {
        CHECK(waitid(P_ALL, 0, &info, WEXITED) == 0);
        CHECK(info.si_signo == SIGCHLD && info.si_pid == pid && info.si_uid == getuid());
        say("%s: code %d status %d\n", label, info.si_code, info.si_status);
    } else if (strcmp(parent, "ignore") == 0) {
        // wait4 blocks until the child is gone and then has nothing to tell.
        CHECK_FAILS(waitpid(pid, &status, 0), ECHILD);
        // Its number may be in use for a moment longer: the child that nobody waits for removes itself.
        while (kill(pid, 0) == 0) sched_yield();
        CHECK(errno == ESRCH);
        say("%s: gone\n", label);
    } else {
        struct rusage usage;
        CHECK(wait4(-1, &status, 0, &usage) == pid);
        say("%s: %#06x\n", label, status);
    }
}

int main(int argc, char **argv) {
    CHECK(argc >= 2);
    if (strcmp(argv[1], "exit") == 0) return atoi(argv[2]);
    const char *parent = argv[1];
    self_path();
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    if (strcmp(parent, "signalfd") == 0) CHECK(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
    if (strcmp(parent, "ignore") == 0) signal(SIGCHLD, SIG_IGN);

    for (int threads = 1; threads <= 3; threads++)
        for (int leader = RETURN; leader < WAYS; leader++)
            for (int way_of_other = RETURN; way_of_other < (threads > 1 ? WAYS : 1); way_of_other++)
                for (int first = 1; first >= (threads > 1 ? 0 : 1); first--) {
                    char label[80];
                    snprintf(label, sizeof label, "%s,%s,%s,%d", way_names[leader],
                             threads > 1 ? way_names[way_of_other] : "-", first ? "leader" : "other", threads);
                    if (argc > 2 && strcmp(argv[2], label) != 0) continue;
                    // exit() in a thread takes the same way as exit_group.
                    if (way_of_other == EXIT) continue;
                    pid_t pid = fork();
                    CHECK(pid >= 0);
                    if (pid == 0) return child((enum way)leader, (enum way)way_of_other, first, threads);
                    hear(parent, pid, label);
                }
    return 0;
}
