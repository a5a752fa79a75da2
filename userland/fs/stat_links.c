// stat, lstat, fstat and statx agree; hard and symbolic links; modes and umask; times.
#include "scratch.h"
#include <sys/sysmacros.h>

int main(void) {
    scratch();
    struct stat st, other;
    CHECK(umask(027) == 022 || true);
    CHECK(umask(027) == 027);
    int fd = open("file", O_RDWR | O_CREAT, 0666);
    CHECK(write(fd, "12345", 5) == 5);
    CHECK(fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && (st.st_mode & 07777) == 0640 && st.st_size == 5);
    CHECK(st.st_nlink == 1 && st.st_uid == geteuid());
    CHECK(stat("file", &other) == 0 && st.st_ino == other.st_ino && st.st_dev == other.st_dev);
    CHECK(fchmod(fd, 0604) == 0 && stat("file", &st) == 0 && (st.st_mode & 07777) == 0604);
    CHECK(chmod("file", 04711) == 0 && stat("file", &st) == 0 && (st.st_mode & 07777) == 04711);

    struct statx extended;
    CHECK(statx(AT_FDCWD, "file", 0, STATX_BASIC_STATS, &extended) == 0);
    CHECK((extended.stx_mask & STATX_BASIC_STATS) == STATX_BASIC_STATS && extended.stx_ino == st.st_ino);
    CHECK(extended.stx_mode == st.st_mode && extended.stx_size == 5 && extended.stx_nlink == 1);
    CHECK(makedev(extended.stx_dev_major, extended.stx_dev_minor) == st.st_dev);
    CHECK(extended.stx_mtime.tv_sec == st.st_mtim.tv_sec && (long)extended.stx_mtime.tv_nsec == st.st_mtim.tv_nsec);
    CHECK(statx(fd, "", AT_EMPTY_PATH, STATX_SIZE, &extended) == 0 && extended.stx_size == 5);

    // A hard link is the same file under another name.
    CHECK(link("file", "hard") == 0 && stat("hard", &other) == 0);
    CHECK(other.st_ino == st.st_ino && other.st_nlink == 2);
    CHECK_FAILS(link("file", "hard"), EEXIST);
    CHECK(unlink("hard") == 0 && stat("file", &st) == 0 && st.st_nlink == 1);

    // A symbolic link is a file of its own; the loop and the dangling one are errors.
    char text[64];
    CHECK(symlink("file", "soft") == 0 && lstat("soft", &st) == 0 && S_ISLNK(st.st_mode) && st.st_size == 4);
    CHECK(stat("soft", &st) == 0 && S_ISREG(st.st_mode));
    CHECK(readlink("soft", text, sizeof text) == 4 && memcmp(text, "file", 4) == 0);
    CHECK(readlink("soft", text, 2) == 2);
    CHECK_FAILS(readlink("file", text, sizeof text), EINVAL);
    CHECK(symlink("gone", "dangling") == 0);
    CHECK_FAILS(stat("dangling", &st), ENOENT);
    CHECK(symlink("loop", "loop") == 0);
    CHECK_FAILS(stat("loop", &st), ELOOP);
    CHECK_FAILS(open("soft", O_RDONLY | O_NOFOLLOW), ELOOP);
    CHECK_FAILS(stat("", &st), ENOENT);
    memset(text, 'n', sizeof text);
    char long_name[300];
    memset(long_name, 'n', sizeof long_name - 1);
    long_name[299] = 0;
    CHECK_FAILS(stat(long_name, &st), ENAMETOOLONG);

    // Times can be set to the nanosecond.
    struct timespec times[2] = {{1000000000, 123456789}, {1100000000, 987654321}};
    CHECK(utimensat(AT_FDCWD, "file", times, 0) == 0 && stat("file", &st) == 0);
    CHECK(st.st_atim.tv_sec == 1000000000 && st.st_atim.tv_nsec == 123456789);
    CHECK(st.st_mtim.tv_sec == 1100000000 && st.st_mtim.tv_nsec == 987654321);
    struct timespec leave[2] = {{0, UTIME_OMIT}, {0, UTIME_NOW}};
    CHECK(utimensat(AT_FDCWD, "file", leave, 0) == 0 && stat("file", &st) == 0);
    CHECK(st.st_atim.tv_sec == 1000000000 && st.st_mtim.tv_sec > 1100000000);

    // Directories and devices say what they are.
    CHECK(mkdir("directory", 0777) == 0 && stat("directory", &st) == 0);
    CHECK(S_ISDIR(st.st_mode) && (st.st_mode & 0777) == 0750);
    CHECK(stat("/dev/null", &st) == 0 && S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 3));
    CHECK(access("file", F_OK) == 0);
    CHECK_FAILS(access("gone", F_OK), ENOENT);
    say("stat and links as they should be\n");
    return 0;
}
