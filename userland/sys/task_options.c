// Options of prctl: name, subreaper, timer slack, securebits, names of memory, auxiliary vector.
// qemu: no (it lacks some of these options)
#include "proc.h"
#include <sys/prctl.h>

#ifndef PR_SET_VMA
#define PR_SET_VMA 0x53564d41
#define PR_SET_VMA_ANON_NAME 0
#endif
#ifndef PR_GET_AUXV
#define PR_GET_AUXV 0x41555856
#endif

static bool maps_show(const char *text) {
    FILE *maps = fopen("/proc/self/maps", "re");
    CHECK(maps);
    char line[512];
    bool found = false;
    while (fgets(line, sizeof line, maps)) found |= strstr(line, text) != NULL;
    fclose(maps);
    return found;
}

int main(void) {
    char name[16];
    CHECK(prctl(PR_SET_NAME, "a name that is too long") == 0 && prctl(PR_GET_NAME, name) == 0);
    CHECK(strcmp(name, "a name that is ") == 0);
    CHECK_FAILS(prctl(PR_SET_NAME, bad_address), EFAULT);
    say("%s\n", status_field(getpid(), "Name"));

    int on = 7;
    CHECK(prctl(PR_GET_CHILD_SUBREAPER, &on) == 0 && on == 0);
    CHECK(prctl(PR_SET_CHILD_SUBREAPER, 5) == 0 && prctl(PR_GET_CHILD_SUBREAPER, &on) == 0 && on == 1);
    CHECK(prctl(PR_SET_PDEATHSIG, SIGUSR2) == 0);
    pid_t pid = fork();
    if (pid == 0) {
        int sig = 1, reaper = 1;
        CHECK(prctl(PR_GET_PDEATHSIG, &sig) == 0 && sig == 0);
        CHECK(prctl(PR_GET_CHILD_SUBREAPER, &reaper) == 0 && reaper == 0);
        _exit(0);
    }
    CHECK(status_of(pid) == 0);
    CHECK_FAILS(prctl(PR_SET_PDEATHSIG, 65), EINVAL);

    CHECK(prctl(PR_GET_TIMERSLACK) == 50000);
    CHECK(prctl(PR_SET_TIMERSLACK, 1234) == 0 && prctl(PR_GET_TIMERSLACK) == 1234);
    CHECK(prctl(PR_SET_TIMERSLACK, 0) == 0 && prctl(PR_GET_TIMERSLACK) == 50000);

    CHECK(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 0);
    CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1);
    CHECK_FAILS(prctl(PR_GET_NO_NEW_PRIVS, 1, 0, 0, 0), EINVAL);
    CHECK(prctl(PR_GET_SECUREBITS) == 0);
    CHECK_FAILS(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, 63, 0, 0), EINVAL);
    CHECK(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, 5, 0, 0) == 0);
    CHECK(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) == 0);
    CHECK(prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0) == 0 && prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0) == 0);
    CHECK(prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0) == 1);
    int *address = NULL;
    CHECK(prctl(PR_GET_TID_ADDRESS, &address) != 0 || address);
    CHECK_FAILS(prctl(12345, 0, 0, 0, 0), EINVAL);

    char *memory = mmap(NULL, 3 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(memory != MAP_FAILED);
    if (prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, memory + 4096, 4096, "minikern heap") == 0) {
        CHECK(maps_show("[anon:minikern heap]"));
        CHECK(prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, memory, 3 * 4096, NULL) == 0 && !maps_show("[anon:minikern"));
        CHECK_FAILS(prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, memory, 4096, "no [brackets]"), EINVAL);
    }
    CHECK_FAILS(prctl(PR_SET_VMA, 9, memory, 4096, "x"), EINVAL);

    unsigned long auxv[128];
    int size = prctl(PR_GET_AUXV, auxv, sizeof auxv, 0, 0);
    if (size > 0) CHECK((size_t)size <= sizeof auxv && auxv[0] != 0);
    say("done\n");
    return 0;
}
