// POSIX shared memory and semaphores, by name and without one: files in memory and futexes.
#include "check.h"
#include <semaphore.h>

int main(void) {
    char name[64];
    snprintf(name, sizeof name, "/userland-%d", getpid());
    int fd = shm_open(name, O_RDWR | O_CREAT | O_EXCL, 0600);
    CHECK(fd >= 0 && ftruncate(fd, 4096) == 0);
    CHECK_FAILS(shm_open(name, O_RDWR | O_CREAT | O_EXCL, 0600), EEXIST);
    struct {
        sem_t ping, pong;
        int counter;
    } *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(shared != MAP_FAILED);
    CHECK(sem_init(&shared->ping, 1, 0) == 0 && sem_init(&shared->pong, 1, 0) == 0);
    pid_t pid = fork();
    if (pid == 0) {
        // By its name, not by what fork gave us.
        int again = shm_open(name, O_RDWR, 0);
        typeof(shared) mine = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, again, 0);
        CHECK(mine != MAP_FAILED && mine != shared);
        for (int i = 0; i < 50; i++) {
            CHECK(sem_wait(&mine->ping) == 0);
            mine->counter++;
            CHECK(sem_post(&mine->pong) == 0);
        }
        _exit(0);
    }
    for (int i = 0; i < 50; i++) {
        CHECK(sem_post(&shared->ping) == 0 && sem_wait(&shared->pong) == 0);
        CHECK(shared->counter == i + 1);
    }
    CHECK(status_of(pid) == 0);
    CHECK(shm_unlink(name) == 0);
    CHECK_FAILS(shm_open(name, O_RDWR, 0), ENOENT);
    CHECK(shared->counter == 50);
    say("50 turns through memory with a name\n");

    sem_t *one = sem_open(name, O_CREAT | O_EXCL, 0600, 1);
    CHECK(one != SEM_FAILED && sem_open(name, O_CREAT | O_EXCL, 0600, 1) == SEM_FAILED && errno == EEXIST);
    CHECK(sem_wait(one) == 0);
    pid = fork();
    if (pid == 0) {
        sem_t *mine = sem_open(name, 0);
        CHECK(mine != SEM_FAILED);
        CHECK_FAILS(sem_trywait(mine), EAGAIN);
        CHECK(sem_post(mine) == 0);
        _exit(0);
    }
    CHECK(sem_wait(one) == 0 && status_of(pid) == 0 && sem_unlink(name) == 0 && sem_close(one) == 0);
    say("a semaphore with a name\n");

    // memfd: memory without a name, that can be sealed.
    fd = (int)syscall(SYS_memfd_create, "memory", 2 /* MFD_ALLOW_SEALING */);
    CHECK(fd >= 0 && ftruncate(fd, 4096) == 0 && pwrite(fd, "text", 4, 0) == 4);
    CHECK(fcntl(fd, F_GET_SEALS) == 0);
    CHECK(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_WRITE) == 0);
    CHECK_FAILS(pwrite(fd, "x", 1, 0), EPERM);
    CHECK_FAILS(ftruncate(fd, 0), EPERM);
    CHECK_FAILS(mmap(NULL, 4096, PROT_WRITE, MAP_SHARED, fd, 0), EPERM);
    char text[4];
    CHECK(pread(fd, text, 4, 0) == 4 && memcmp(text, "text", 4) == 0);
    say("memory without a name, sealed\n");
    return 0;
}
