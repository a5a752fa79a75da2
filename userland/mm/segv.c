// SIGSEGV says MAPERR or ACCERR and the exact address, also for an access of which only the tail is on the bad page:
// then it is the first byte of that page.
// concept: 6 signals
#include "fault.h"

int main(void) {
    const size_t page = 4096;
    char *area = mmap(NULL, 5 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(area != MAP_FAILED && munmap(area + page, page) == 0);
    CHECK(mprotect(area + 3 * page, page, PROT_READ) == 0 && mprotect(area + 4 * page, page, PROT_NONE) == 0);
    // Pages now: read-write, hole, read-write, read-only, none.
    static const struct {
        const char *label;
        void (*access)(void *);
        size_t offset;
    } tries[] = {
        {"load of 1 in the hole", load8, 4096 + 123},
        {"store of 1 in the hole", store8, 4096 + 4095},
        {"load of 8 in the hole", load64, 4096 + 77},
        {"load of 8 from good into the hole", load64, 4096 - 3},
        {"store of 8 from good into the hole", store64, 4096 - 3},
        {"load of 8 from the hole into good", load64, 8192 - 3},
        {"store of 8 from the hole into good", store64, 8192 - 3},
        {"load of 8 up to read-only", load64, 3 * 4096 - 3},
        {"store of 8 into read-only", store64, 3 * 4096 - 3},
        {"store of 1 to read-only", store8, 3 * 4096 + 9},
        {"load of 8 from read-only into none", load64, 4 * 4096 - 1},
        {"load of 1 from none", load8, 4 * 4096 + 1000},
    };
    for (size_t i = 0; i < COUNT(tries); i++)
        say_fault(tries[i].label, try_fault(tries[i].access, area + tries[i].offset), area);
    // A store that failed has changed nothing on the good page.
    for (size_t i = 1; i <= 8; i++) CHECK(area[page - i] == 0 && area[3 * page - i] == 0);

    say_fault("load from address 8", try_fault(load8, bad_address), NULL);
    CHECK(fault_info.si_signo == SIGSEGV && fault_info.si_errno == 0);

    // A jump to where nothing is: the address is that of the instruction.
    void (*nowhere)(void *) = (void (*)(void *))(uintptr_t)(area + page + 16);
    say_fault("jump into the hole", try_fault(nowhere, NULL), area);
    void (*data)(void *) = (void (*)(void *))(uintptr_t)(area + 16);
    say_fault("jump to data", try_fault(data, NULL), area);

    // Without a handler it is the end, also when the signal is blocked or ignored: it is forced.
    for (int i = 0; i < 3; i++) {
        pid_t pid = fork();
        if (pid == 0) {
            struct rlimit none = {0, 0};
            setrlimit(RLIMIT_CORE, &none);
            sigset_t set;
            sigemptyset(&set);
            sigaddset(&set, SIGSEGV);
            if (i == 1) sigprocmask(SIG_BLOCK, &set, NULL);
            signal(SIGSEGV, i == 2 ? SIG_IGN : SIG_DFL);
            store8(bad_address);
            _exit(0);
        }
        static const char *const how[] = {"default", "blocked", "ignored"};
        say("%s: %s\n", how[i], status_text(status_of(pid)));
    }
    return 0;
}
