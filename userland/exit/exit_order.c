// The order of do_exit as others see it: when the descriptors of a dying process are closed, its clear_child_tid and
// robust futexes have been handled, its semaphores undone, its shared memory detached; only then is it a zombie.
// concept: 3 do_exit, in order
// qemu: no (it has no robust futexes)
#include "thread.h"
#include <stddef.h>
#include <sys/ipc.h>
#include <sys/sem.h>
#include <sys/shm.h>

struct lock {
    struct robust_list list;
    uint32_t word;
};

struct shared {
    struct lock lock;
    struct robust_list_head head;
};

static void child(struct shared *shared, int semaphore, int segment, int how) {
    CHECK(shmat(segment, NULL, 0) != (void *)-1);
    CHECK(semop(semaphore, &(struct sembuf){0, 5, SEM_UNDO}, 1) == 0);
    shared->lock.word = (uint32_t)syscall(SYS_gettid);
    shared->lock.list.next = &shared->head.list;
    shared->head.list.next = &shared->lock.list;
    shared->head.futex_offset = offsetof(struct lock, word);
    CHECK(syscall(SYS_set_robust_list, &shared->head, sizeof shared->head) == 0);
    if (how == 0) _exit(1);
    if (how == 1) kill(getpid(), SIGKILL);
    thread_exit(2);
}

int main(void) {
    struct shared *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int semaphore = semget(IPC_PRIVATE, 1, 0600), segment = shmget(IPC_PRIVATE, 4096, 0600);
    CHECK(shared != MAP_FAILED && semaphore >= 0 && segment >= 0);
    static const char *const names[] = {"_exit", "SIGKILL", "exit(2)"};
    for (int how = 0; how < 3; how++)
        for (int round = 0; round < 10; round++) {
            int ends[2];
            CHECK(pipe(ends) == 0);
            memset(shared, 0, sizeof *shared);
            pid_t pid = fork();
            CHECK(pid >= 0);
            if (pid == 0) child(shared, semaphore, segment, how);
            close(ends[1]);
            CHECK(read(ends[0], &(char){0}, 1) == 0);
            close(ends[0]);
            struct shmid_ds info;
            CHECK(shared->lock.word == FUTEX_OWNER_DIED);
            CHECK(semctl(semaphore, 0, GETVAL) == 0);
            CHECK(shmctl(segment, IPC_STAT, &info) == 0 && info.shm_nattch == 0);
            int status = status_of(pid);
            if (round == 0) say("%s: %s, all done before the files were closed\n", names[how], status_text(status));
        }
    CHECK(semctl(semaphore, 0, IPC_RMID) == 0 && shmctl(segment, IPC_RMID, NULL) == 0);
    return 0;
}
