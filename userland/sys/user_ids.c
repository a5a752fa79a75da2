// The ids of a process and the capabilities that follow them: what root may set and a user not, what dropping root
// takes away and PR_SET_KEEPCAPS keeps, and what a set-user-id program gains. Where it does not run as root, only the
// part for users.
// qemu: no (it cannot execute a foreign binary without binfmt_misc)
#include "self.h"
#include "scratch.h"
#include <grp.h>
#include <linux/capability.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>
#include <sys/statvfs.h>

static uint64_t capabilities(int which) {
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2];
    CHECK(syscall(SYS_capget, &header, data) == 0);
    const uint32_t *low = &data[0].effective, *high = &data[1].effective;
    return low[which] | (uint64_t)high[which] << 32;
}
#define EFFECTIVE capabilities(0)
#define PERMITTED capabilities(1)

static void check_ids(uid_t real, uid_t effective, uid_t saved) {
    uid_t r, e, s;
    CHECK(getresuid(&r, &e, &s) == 0 && r == real && e == effective && s == saved);
    CHECK(getuid() == real && geteuid() == effective);
}

// Run a function in a child.
static void in_child(void (*function)(void)) {
    pid_t pid = fork();
    if (pid == 0) {
        function();
        _exit(0);
    }
    CHECK(status_of(pid) == 0);
}

// The system call itself: the C library would set every thread's ids.
static int set_uid(uid_t uid) { return (int)syscall(SYS_setuid, uid); }
static int set_resuid(uid_t r, uid_t e, uid_t s) { return (int)syscall(SYS_setresuid, r, e, s); }

static void drop_for_good(void) {
    CHECK(EFFECTIVE && set_uid(1000) == 0);
    check_ids(1000, 1000, 1000);
    CHECK(!EFFECTIVE && !PERMITTED);
    CHECK_FAILS(set_uid(0), EPERM);
    CHECK(set_uid(1000) == 0);
    CHECK_FAILS(set_resuid(-1, 0, -1), EPERM);
    CHECK_FAILS(setgroups(0, NULL), EPERM);
    CHECK_FAILS(kill(1, 0), EPERM);
}

static void drop_and_return(void) {
    CHECK(set_resuid(-1, 1000, -1) == 0);
    check_ids(0, 1000, 0);
    CHECK(!EFFECTIVE && PERMITTED);
    CHECK(set_resuid(-1, 0, -1) == 0 && EFFECTIVE == PERMITTED);
    CHECK(syscall(SYS_setreuid, 1000, -1) == 0);
    check_ids(1000, 0, 0);
    CHECK(syscall(SYS_setreuid, 0, 1000) == 0);
    check_ids(0, 1000, 1000);
    CHECK(syscall(SYS_setreuid, 1000, 0) == 0);
    check_ids(1000, 0, 0);
}

static void keep_capabilities(void) {
    CHECK(prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) == 0 && prctl(PR_GET_KEEPCAPS, 0, 0, 0, 0) == 1);
    CHECK(set_uid(1000) == 0);
    CHECK(!EFFECTIVE && PERMITTED);
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2] = {{1 << CAP_SETUID, 1 << CAP_SETUID, 0}, {0, 0, 0}};
    CHECK(syscall(SYS_capset, &header, data) == 0 && EFFECTIVE == 1 << CAP_SETUID);
    data[0].permitted |= 1 << CAP_KILL;
    CHECK_FAILS(syscall(SYS_capset, &header, data), EPERM);
    CHECK(set_resuid(0, 0, 0) == 0);
    check_ids(0, 0, 0);
}

static void files_id(void) {
    CHECK(setfsuid(1000) == 0 && setfsuid(-1) == 1000);
    CHECK(!(EFFECTIVE & 1 << CAP_DAC_OVERRIDE) && EFFECTIVE & 1 << CAP_SETUID);
    CHECK(setfsuid(0) == 1000 && EFFECTIVE & 1 << CAP_DAC_OVERRIDE);
    CHECK(setfsgid(5) == 0 && setfsgid(-1) == 5);
}

static void groups(void) {
    gid_t some[3] = {30, 10, 20}, got[8];
    CHECK(setgroups(3, some) == 0 && getgroups(0, NULL) == 3 && getgroups(8, got) == 3);
    CHECK(got[0] == 10 && got[1] == 20 && got[2] == 30);
    CHECK_FAILS(getgroups(2, got), EINVAL);
    CHECK(syscall(SYS_setresgid, 100, 200, 300) == 0 && getgid() == 100 && getegid() == 200);
    CHECK(syscall(SYS_setgid, 400) == 0 && getgid() == 400 && getegid() == 400);
}

static void bounding_set(void) {
    CHECK(prctl(PR_CAPBSET_READ, CAP_KILL, 0, 0, 0) == 1 && prctl(PR_CAPBSET_DROP, CAP_KILL, 0, 0, 0) == 0);
    CHECK(prctl(PR_CAPBSET_READ, CAP_KILL, 0, 0, 0) == 0 && EFFECTIVE & 1 << CAP_KILL);
    CHECK_FAILS(prctl(PR_CAPBSET_READ, 63, 0, 0, 0), EINVAL);
    exec_self("after-drop", NULL);
}

static void not_dumpable(void) {
    CHECK(prctl(PR_GET_DUMPABLE) == 1 && prctl(PR_SET_PDEATHSIG, SIGUSR1) == 0);
    CHECK(set_resuid(-1, 1000, -1) == 0 && prctl(PR_GET_DUMPABLE) == 0);
    int sig = 77;
    CHECK(prctl(PR_GET_PDEATHSIG, &sig) == 0 && sig == 0);
    CHECK(prctl(PR_SET_DUMPABLE, 1) == 0 && prctl(PR_GET_DUMPABLE) == 1);
    CHECK_FAILS(prctl(PR_SET_DUMPABLE, 2), EINVAL);
}

static int set_id_copy;

// By descriptor: user 1000 may not reach the directory.
static void exec_copy(char *argument) {
    char *arguments[] = {"copy", argument, NULL};
    syscall(SYS_execveat, set_id_copy, "", arguments, environ, AT_EMPTY_PATH);
    check_failed(__FILE__, __LINE__, "execveat");
}

static void set_user_id(void) {
    CHECK(set_uid(1000) == 0);
    exec_copy("as-owner");
}

static void set_user_id_without_new_privileges(void) {
    CHECK(set_uid(1000) == 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    exec_copy("as-nobody");
}

int main(int argc, char **argv) {
    if (argc > 1) {
        if (!strcmp(argv[1], "after-drop")) return PERMITTED & 1 << CAP_KILL || !(EFFECTIVE & 1 << CAP_SETUID);
        if (!strcmp(argv[1], "as-nobody")) check_ids(1000, 1000, 1000);
        else check_ids(1000, 1234, 1234);
        if (getauxval(AT_SECURE) != !strcmp(argv[1], "as-owner")) return 2;
        return EFFECTIVE || PERMITTED;
    }
    CHECK_FAILS(set_uid(-1), EINVAL);
    CHECK_FAILS(prctl(PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0), EINVAL);
    if (getuid() == 0) {
        in_child(drop_for_good);
        in_child(drop_and_return);
        in_child(keep_capabilities);
        in_child(files_id);
        in_child(groups);
        in_child(bounding_set);
        in_child(not_dumpable);

        (void)self_path();
        scratch();
        int from = open(self_path(), O_RDONLY), to = open("copy", O_WRONLY | O_CREAT | O_EXCL, 0755);
        CHECK(from >= 0 && to >= 0);
        char block[65536];
        for (ssize_t got; (got = read(from, block, sizeof block)) > 0;) CHECK(write(to, block, (size_t)got) == got);
        CHECK(fchown(to, 1234, -1) == 0 && fchmod(to, 04755) == 0 && close(to) == 0 && close(from) == 0);
        set_id_copy = open("copy", O_PATH);
        CHECK(set_id_copy >= 0);
        struct statvfs fs;
        CHECK(statvfs(".", &fs) == 0);
        if (!(fs.f_flag & ST_NOSUID)) in_child(set_user_id);
        in_child(set_user_id_without_new_privileges);
    }
    say("done\n");
    return 0;
}
