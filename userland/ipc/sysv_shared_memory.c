// System V shared memory: seen by every process that has it attached, inherited, counted; marked for removal it stays
// until the last process lets go of it, by shmdt, exec or death.
// concept: 3 do_exit, in order
#include "check.h"
#include <sys/ipc.h>
#include <sys/shm.h>

static struct shmid_ds stat_of(int id) {
    struct shmid_ds ds;
    CHECK(shmctl(id, IPC_STAT, &ds) == 0);
    return ds;
}

int main(void) {
    const size_t size = 3 * 4096 - 100;
    int id = shmget(IPC_PRIVATE, size, IPC_CREAT | 0640);
    CHECK(id >= 0);
    struct shmid_ds ds = stat_of(id);
    CHECK(ds.shm_segsz == size && ds.shm_nattch == 0 && ds.shm_cpid == getpid() && ds.shm_perm.mode == 0640);
    CHECK(ds.shm_atime == 0 && ds.shm_ctime > 1000000000);

    volatile int *memory = shmat(id, NULL, 0);
    CHECK(memory != (void *)-1 && memory[0] == 0);
    ds = stat_of(id);
    CHECK(ds.shm_nattch == 1 && ds.shm_lpid == getpid() && ds.shm_atime > 1000000000);

    pid_t pid = fork();
    if (pid == 0) {
        CHECK(stat_of(id).shm_nattch == 2);
        memory[0] = 77;
        memory[2047] = 78;
        _exit(0);
    }
    CHECK(status_of(pid) == 0 && memory[0] == 77 && memory[2047] == 78);
    CHECK(stat_of(id).shm_nattch == 1 && stat_of(id).shm_lpid == pid);
    say("shared with a child\n");

    // A second look at it, read-only, at a chosen address.
    char *room = mmap(NULL, 8 * 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(room != MAP_FAILED);
    CHECK_FAILS((long)shmat(id, room + 4096, SHM_RDONLY), EINVAL);
    CHECK(munmap(room, 8 * 4096) == 0);
    volatile int *again = shmat(id, room + 4096 + 10, SHM_RDONLY | SHM_RND);
    CHECK((char *)again == room + 4096 && again[0] == 77);
    memory[1] = 5;
    CHECK(again[1] == 5 && stat_of(id).shm_nattch == 2);
    pid = fork();
    if (pid == 0) {
        again[0] = 1;
        _exit(0);
    }
    int status = status_of(pid);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
    CHECK_FAILS((long)shmat(id, room + 10, 0), EINVAL);
    say("attached twice\n");

    // Cutting a hole into it and taking what is left away.
    CHECK(munmap(room + 2 * 4096, 4096) == 0 && stat_of(id).shm_nattch == 3);
    CHECK(shmdt(room + 4096) == 0 && stat_of(id).shm_nattch == 1);
    CHECK_FAILS(shmdt(room + 4096), EINVAL);
    say("detached\n");

    // Removed while it is in use.
    struct gate gate = gate_new();
    pid = fork();
    if (pid == 0) {
        gate_wait(gate);
        CHECK(memory[0] == 77);
        _exit(0);
    }
    CHECK(shmctl(id, IPC_RMID, NULL) == 0);
    ds = stat_of(id);
    CHECK(ds.shm_perm.mode & 01000 && ds.shm_nattch == 2);
    void *late = shmat(id, NULL, 0);
    CHECK(late != (void *)-1 && shmdt(late) == 0);
    CHECK(shmdt((void *)memory) == 0 && stat_of(id).shm_nattch == 1);
    gate_open(gate);
    CHECK(status_of(pid) == 0);
    CHECK_FAILS(shmctl(id, IPC_STAT, &ds), EINVAL);
    say("gone with the last process\n");

    key_t key = 0x6d6b0000 + getpid() % 1000;
    CHECK_FAILS(shmget(key, 4096, 0600), ENOENT);
    int named = shmget(key, 4096, IPC_CREAT | IPC_EXCL | 0600);
    CHECK(named >= 0 && shmget(key, 0, 0) == named);
    CHECK_FAILS(shmget(key, 8192, 0600), EINVAL);
    CHECK_FAILS(shmget(key, 1, IPC_CREAT | IPC_EXCL | 0600), EEXIST);
    CHECK_FAILS(shmget(IPC_PRIVATE, 0, 0600), EINVAL);
    CHECK(shmctl(named, IPC_RMID, NULL) == 0);
    CHECK_FAILS((long)shmat(named, NULL, 0), EINVAL);
    say("keys\n");
    return 0;
}
