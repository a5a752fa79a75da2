// A robust mutex in shared memory whose owner is killed: the next one to lock it hears EOWNERDEAD and can make it
// consistent; if it does not, the mutex is lost for all. So it is for a thread that exits, and for an exec.
// concept: 3 do_exit, in order
// qemu: no (it has no set_robust_list)
#include "self.h"

static pthread_mutex_t *mutex;

static void make(void) {
    pthread_mutexattr_t attributes;
    CHECK_PTHREAD(pthread_mutexattr_init(&attributes));
    CHECK_PTHREAD(pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST));
    CHECK_PTHREAD(pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED));
    CHECK_PTHREAD(pthread_mutex_init(mutex, &attributes));
}

static void *locks_and_ends(void *unused) {
    CHECK_PTHREAD(pthread_mutex_lock(mutex));
    return unused;
}

int main(int argc, char **argv) {
    (void)argv;
    if (argc > 1) {
        sleep_ms(20);
        return 0;
    }
    self_path();
    mutex = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(mutex != MAP_FAILED);
    struct gate locked = gate_new();
    static const char *const names[] = {"_exit", "SIGKILL", "exec"};
    for (int way = 0; way < 3; way++) {
        make();
        pid_t pid = fork();
        if (pid == 0) {
            CHECK_PTHREAD(pthread_mutex_lock(mutex));
            gate_open(locked);
            sleep_ms(20);
            if (way == 0) _exit(0);
            if (way == 1) kill(getpid(), SIGKILL);
            exec_self("sleep", NULL);
        }
        gate_wait(locked);
        // Asleep in the lock when the owner dies.
        int error = pthread_mutex_lock(mutex);
        say("owner ends by %s: %s\n", names[way], errno_name(error));
        status_of(pid);
        CHECK_PTHREAD(pthread_mutex_consistent(mutex));
        CHECK_PTHREAD(pthread_mutex_unlock(mutex));
        CHECK_PTHREAD(pthread_mutex_lock(mutex));
        CHECK_PTHREAD(pthread_mutex_unlock(mutex));
    }

    make();
    pthread_t thread;
    CHECK_PTHREAD(pthread_create(&thread, NULL, locks_and_ends, NULL));
    CHECK_PTHREAD(pthread_join(thread, NULL));
    int error = pthread_mutex_lock(mutex);
    say("owner was a thread: %s\n", errno_name(error));
    // Unlocked without being made consistent: nobody gets it any more.
    CHECK_PTHREAD(pthread_mutex_unlock(mutex));
    error = pthread_mutex_lock(mutex);
    say("not made consistent: %s\n", errno_name(error));
    return 0;
}
