// The word of set_tid_address is zeroed and its futex woken when a thread ends, as the memory is still shared; it is
// left alone when the last user of the memory goes, and after exec.
// concept: 3 do_exit, in order
// qemu: no (its vfork is a fork)
#include "thread.h"

static uint32_t *word;
static struct gate started;

static void *thread(void *unused) {
    announce_death(word);
    gate_open(started);
    gate_wait(*(struct gate *)unused);
    thread_exit(0);
    return unused;
}

int main(void) {
    word = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(word != MAP_FAILED);
    started = gate_new();
    struct gate go = gate_new();
    start_thread(thread, &go);
    gate_wait(started);
    CHECK(*word == 1);
    gate_open(go);
    await_death(word);
    CHECK(*word == 0);
    say("cleared at the end of a thread\n");

    // set_tid_address says who calls.
    CHECK(syscall(SYS_set_tid_address, word) == gettid());

    pid_t pid = fork();
    if (pid == 0) {
        announce_death(word);
        _exit(0);
    }
    CHECK(status_of(pid) == 0);
    say("after a process with memory of its own: %u\n", *word);

    // A process that shares our memory clears it: the child of a vfork.
    pid = vfork();
    if (pid == 0) {
        *word = 1;
        syscall(SYS_set_tid_address, word);
        _exit(0);
    }
    CHECK(status_of(pid) == 0);
    say("after a vfork child: %u\n", *word);

    // CLONE_CHILD_SETTID and CLONE_CHILD_CLEARTID, CLONE_PARENT_SETTID: fork written out.
    static pid_t parent_word, child_word;
    pid = (pid_t)syscall(SYS_clone, 0x00100000 | 0x01000000 | SIGCHLD, NULL, &parent_word,
#if defined __x86_64__
                         &child_word, 0);
#else
                         0, &child_word);
#endif
    if (pid == 0) {
        // Not gettid(): musl remembers the id, and this was no fork of its own.
        CHECK(child_word == syscall(SYS_gettid));
        _exit(0);
    }
    CHECK(status_of(pid) == 0 && parent_word == pid && child_word == 0);
    say("the ids are where clone was told to put them\n");
    return 0;
}
