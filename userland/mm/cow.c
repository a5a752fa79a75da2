// After fork both sides see the old contents and neither sees the other's stores; MAP_SHARED memory is common.
// concept: 1 who is who
#include "check.h"

static int data = 1;
static int bss;

int main(void) {
    const size_t page = 4096;
    const int rw = PROT_READ | PROT_WRITE;
    int stack = 1, *heap = malloc(sizeof *heap);
    *heap = 1;
    int *private = mmap(NULL, 16 * page, rw, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int *shared = mmap(NULL, 16 * page, rw, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(private != MAP_FAILED && shared != MAP_FAILED);
    private[0] = shared[0] = 1;
    struct gate child_stored = gate_new(), parent_stored = gate_new();

    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        CHECK(data == 1 && bss == 0 && stack == 1 && *heap == 1 && private[0] == 1 && shared[0] == 1);
        data = bss = stack = *heap = private[0] = shared[0] = 2;
        // A page nobody had touched before the fork: common when shared, each his own when private.
        private[2000] = shared[2000] = 2;
        // A grandchild inherits from the child, not from the first process.
        pid_t grandchild = fork();
        if (grandchild == 0) {
            CHECK(data == 2 && private[0] == 2 && private[2000] == 2);
            private[0] = 3, shared[1] = 3;
            _exit(0);
        }
        CHECK(status_of(grandchild) == 0 && private[0] == 2);
        gate_open(child_stored);
        gate_wait(parent_stored);
        CHECK(data == 2 && private[0] == 2 && shared[0] == 4);
        // Memory mapped after the fork is nobody else's.
        CHECK(munmap(shared, 16 * page) == 0);
        _exit(0);
    }
    gate_wait(child_stored);
    CHECK(data == 1 && bss == 0 && stack == 1 && *heap == 1 && private[0] == 1 && private[2000] == 0);
    CHECK(shared[0] == 2 && shared[1] == 3 && shared[2000] == 2);
    data = private[0] = shared[0] = 4;
    gate_open(parent_stored);
    CHECK(status_of(pid) == 0);
    CHECK(data == 4 && private[0] == 4 && shared[0] == 4);

    // read(2) by the kernel into a page held in common breaks the sharing like a store.
    int ends[2], value = 7;
    CHECK(pipe(ends) == 0 && write(ends[1], &value, sizeof value) == sizeof value);
    pid = fork();
    if (pid == 0) {
        CHECK(read(ends[0], private, sizeof value) == sizeof value && private[0] == 7);
        _exit(0);
    }
    CHECK(status_of(pid) == 0 && private[0] == 4);
    say("copy on write as it should be\n");
    return 0;
}
