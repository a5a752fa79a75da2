// Process accounting: a record for every process that ends, with how it ended, whose it was, and what it was called.
// native: no (it switches the accounting of the whole host)
#include "scratch.h"
#include <sys/acct.h>

static double comp(comp_t value) {
    double number = value & 0x1fff;
    for (int exponent = value >> 13; exponent > 0; exponent--) number *= 8;
    return number;
}

static void *exit_thread(void *unused) {
    (void)unused;
    syscall(SYS_exit, 9);
    return NULL;
}

static pid_t ends_by(int what) {
    pid_t pid = fork();
    if (pid != 0) {
        status_of(pid);
        return pid;
    }
    switch (what) {
    case 1: {
        pthread_t thread;
        pthread_create(&thread, NULL, exit_thread, NULL);
        sleep_ms(20);
        syscall(SYS_exit, 4);
        break;
    }
    case 2: kill(getpid(), SIGKILL); break;
    case 3: execl("/nonexistent", "x", NULL); break;
    }
    _exit(3);
}

int main(void) {
    scratch();
    CHECK_FAILS(acct("missing"), geteuid() == 0 ? errno : EPERM);
    int fd = open("log", O_RDWR | O_CREAT, 0600);
    CHECK(fd >= 0);
    if (acct("log") == 0) {
        CHECK_FAILS(acct("."), EISDIR);
        CHECK_FAILS(acct("/dev/null"), EACCES);
        pid_t pids[4];
        for (int i = 0; i < 4; i++) pids[i] = ends_by(i);
        CHECK(acct(NULL) == 0);
        struct acct_v3 records[32];
        ssize_t got = read(fd, records, sizeof records);
        CHECK(got >= (ssize_t)(4 * sizeof *records) && got % sizeof *records == 0);
        const int codes[4] = {3 << 8, 4 << 8, SIGKILL, 3 << 8};
        for (int i = 0; i < 4; i++) {
            struct acct_v3 *record = NULL;
            for (size_t j = 0; j < got / sizeof *records; j++)
                if (records[j].ac_pid == (uint32_t)pids[i]) record = &records[j];
            CHECK(record && record->ac_version == 3 && record->ac_ppid == (uint32_t)getpid());
            CHECK(record->ac_exitcode == (uint32_t)codes[i]);
            CHECK(strcmp(record->ac_comm, "accounting") == 0);
            CHECK((record->ac_flag & 0x01) != 0 && (record->ac_flag & 0x10 ? i == 2 : i != 2));
            CHECK(record->ac_uid == getuid() && llabs((long long)record->ac_btime - time(NULL)) <= 2);
            CHECK(comp(record->ac_mem) > 100 && record->ac_etime >= 0 && record->ac_etime < 500);
        }
        // No more records.
        off_t size = lseek(fd, 0, SEEK_END);
        ends_by(0);
        CHECK(lseek(fd, 0, SEEK_END) == size);
    }
    say("done\n");
    return 0;
}
