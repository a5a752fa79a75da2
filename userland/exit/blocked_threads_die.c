// When a process ends, by exit_group or by a signal, every thread dies at once, whatever it is blocked in, and never
// returns to user mode.
// concept: 2 two ways out
// qemu: no (its vfork is a fork)
#include "thread.h"
#include <poll.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/socket.h>

static struct gate ready;
static int empty[2], full[2], sockets[2], queue, semaphores;
static uint32_t word;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

static void in_futex(void) { futex(&word, FUTEX_WAIT, 0, NULL); }
static void in_futex_time(void) { futex(&word, FUTEX_WAIT, 0, &(struct timespec){1000, 0}); }
static void in_mutex(void) { pthread_mutex_lock(&mutex); }
static void in_read(void) { read(empty[0], &(char){0}, 1); }
static void in_write(void) { write(full[1], "x", 1); }
static void in_recv(void) { recv(sockets[0], &(char){0}, 1, 0); }
static void in_pause(void) { pause(); }
static void in_sigsuspend(void) { sigsuspend(&(sigset_t){0}); }
static void in_sigwait(void) { syscall(SYS_rt_sigtimedwait, &(sigset_t){0}, NULL, NULL, 8); }
static void in_nanosleep(void) { nanosleep(&(struct timespec){1000, 0}, NULL); }
static void in_poll(void) { poll(&(struct pollfd){empty[0], POLLIN, 0}, 1, -1); }
static void in_epoll(void) { epoll_wait(epoll_create1(0), &(struct epoll_event){0}, 1, -1); }
static void in_semop(void) { semop(semaphores, &(struct sembuf){0, -1, 0}, 1); }
static void in_msgrcv(void) { msgrcv(queue, &(char[64]){0}, 8, 0, 0); }
static void in_stop(void) {
    for (;;) sched_yield();
}

static void in_wait(void) {
    pid_t pid = fork();
    // It goes when the pipe of its grandparent does.
    if (pid == 0) {
        close(empty[1]);
        read(empty[0], &(char){0}, 1);
        _exit(0);
    }
    waitpid(pid, NULL, 0);
}

static void in_vfork(void) {
    pid_t pid = vfork();
    if (pid == 0) {
        close(empty[1]);
        read(empty[0], &(char){0}, 1);
        _exit(0);
    }
}

static void (*const waits[])(void) = {
    in_futex, in_futex_time, in_mutex, in_read, in_write, in_recv, in_pause, in_sigsuspend, in_sigwait, in_nanosleep,
    in_poll, in_epoll, in_semop, in_msgrcv, in_wait, in_vfork, in_stop,
};

static void *blocked(void *number) {
    gate_open(ready);
    waits[(intptr_t)number]();
    say("thread %d has come back\n", (int)(intptr_t)number);
    return NULL;
}

static void die(int how) {
    CHECK(pipe(empty) == 0 && pipe(full) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, sockets) == 0);
    CHECK(fcntl(full[1], F_SETFL, O_NONBLOCK) == 0);
    static char page[4096];
    while (write(full[1], page, sizeof page) > 0) continue;
    CHECK(fcntl(full[1], F_SETFL, 0) == 0);
    CHECK(pthread_mutex_lock(&mutex) == 0);
    ready = gate_new();
    for (size_t i = 0; i < COUNT(waits); i++) start_thread(blocked, (void *)(intptr_t)i);
    for (size_t i = 0; i < COUNT(waits); i++) gate_wait(ready);
    sleep_ms(30);
    if (how == 0) syscall(SYS_exit_group, 9);
    if (how == 1) kill(getpid(), SIGTERM);
    if (how == 2) exit(10);
    if (how == 3) kill(getpid(), SIGKILL);
    // From the outside: the parent kills us.
    for (;;) pause();
}

int main(void) {
    queue = msgget(IPC_PRIVATE, 0600);
    semaphores = semget(IPC_PRIVATE, 1, 0600);
    CHECK(queue >= 0 && semaphores >= 0);
    static const char *const names[] = {"exit_group(9)", "SIGTERM", "exit(10)", "SIGKILL", "SIGKILL from the parent"};
    for (int how = 0; how < 5; how++) {
        pid_t pid = fork();
        CHECK(pid >= 0);
        if (pid == 0) die(how);
        if (how == 4) {
            sleep_ms(60);
            kill(pid, SIGKILL);
        }
        say("%s: %s\n", names[how], status_text(status_of(pid)));
    }
    CHECK(msgctl(queue, IPC_RMID, NULL) == 0 && semctl(semaphores, 0, IPC_RMID) == 0);
    return 0;
}
