// User and group ids: real, effective, saved; what the superuser may and what is lost with it; inherited by fork.
// qemu: no (it keeps the ids of threads apart)
#include "check.h"
#include <grp.h>

// Done in a child, so that root stays root.
static void as_user(void) {
    uid_t real, effective, saved;
    gid_t groups[4] = {5, 6, 7, 8};
    CHECK(setgroups(2, groups) == 0 && getgroups(4, groups) == 2 && groups[1] == 6);
    CHECK(setresgid(100, 101, 102) == 0 && getgid() == 100 && getegid() == 101);
    CHECK(setresuid(1000, 1001, 1002) == 0);
    CHECK(getresuid(&real, &effective, &saved) == 0 && real == 1000 && effective == 1001 && saved == 1002);
    // Among the three one may move, elsewhere not.
    CHECK(seteuid(1002) == 0 && geteuid() == 1002 && setresuid(-1, 1000, -1) == 0);
    CHECK_FAILS(setuid(0), EPERM);
    CHECK_FAILS(setresuid(-1, 5, -1), EPERM);
    CHECK_FAILS(setgroups(0, NULL), EPERM);
    // Nobody else's process may be signalled: init is root's.
    CHECK_FAILS(kill(1, SIGTERM), EPERM);
    CHECK_FAILS(kill(1, 0), EPERM);
    pid_t pid = fork();
    if (pid == 0) {
        CHECK(getresuid(&real, &effective, &saved) == 0 && real == 1000 && effective == 1000 && saved == 1002);
        _exit(0);
    }
    CHECK(status_of(pid) == 0);
    struct rlimit limit = {100, 100};
    CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    limit.rlim_max = 200;
    CHECK_FAILS(setrlimit(RLIMIT_NOFILE, &limit), EPERM);
    CHECK_FAILS(chroot("/"), EPERM);
}

int main(void) {
    if (geteuid() == 0) {
        pid_t pid = fork();
        if (pid == 0) {
            as_user();
            _exit(0);
        }
        CHECK(status_of(pid) == 0);
        pid = fork();
        if (pid == 0) {
            // setuid of the superuser changes all three, for good.
            uid_t real, effective, saved;
            CHECK(setuid(1000) == 0 && getresuid(&real, &effective, &saved) == 0);
            CHECK(real == 1000 && effective == 1000 && saved == 1000);
            CHECK_FAILS(setuid(0), EPERM);
            _exit(0);
        }
        CHECK(status_of(pid) == 0);
    }
    CHECK(setuid(getuid()) == 0 && setgid(getgid()) == 0);
    say("identities\n");
    return 0;
}
