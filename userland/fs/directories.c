// getdents64 lists each name once; mkdir, rmdir, rename, chdir and getcwd; the *at calls resolve below a descriptor.
#include "scratch.h"
#include <dirent.h>
#include <linux/fs.h>

static int compare(const void *one, const void *two) { return strcmp(*(char *const *)one, *(char *const *)two); }

// All names in a directory, sorted, on one line.
static void list(const char *label, int fd) {
    char buffer[4096], *names[64];
    int count = 0;
    static char store[64][64];
    CHECK(lseek(fd, 0, SEEK_SET) == 0);
    for (long got; (got = syscall(SYS_getdents64, fd, buffer, sizeof buffer)) > 0;)
        for (char *at = buffer; at < buffer + got; at += ((struct dirent *)at)->d_reclen) {
            struct dirent *entry = (struct dirent *)at;
            CHECK(count < 64 && entry->d_ino != 0);
            static const char kinds[16] = {[DT_REG] = 'f', [DT_DIR] = 'd', [DT_LNK] = 'l', [DT_FIFO] = 'p'};
            snprintf(store[count], sizeof store[count], "%.60s:%c", entry->d_name, kinds[entry->d_type & 15]);
            names[count] = store[count];
            count++;
        }
    qsort(names, count, sizeof *names, compare);
    say("%s:", label);
    for (int i = 0; i < count; i++) say(" %s", names[i]);
    say("\n");
}

int main(void) {
    scratch();
    char here[512], path[1024];
    CHECK(getcwd(here, sizeof here));
    CHECK(mkdir("top", 0755) == 0);
    CHECK_FAILS(mkdir("top", 0755), EEXIST);
    CHECK_FAILS(mkdir("none/below", 0755), ENOENT);
    int top = open("top", O_RDONLY | O_DIRECTORY);
    CHECK(close(openat(top, "file", O_CREAT | O_WRONLY, 0644)) == 0);
    CHECK(mkdirat(top, "sub", 0755) == 0 && symlinkat("file", top, "link") == 0 && mkfifoat(top, "fifo", 0600) == 0);
    list("top", top);

    struct stat st;
    CHECK(fstatat(top, "link", &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(st.st_mode));
    CHECK(fstatat(top, "link", &st, 0) == 0 && S_ISREG(st.st_mode));
    CHECK(fstatat(top, "", &st, AT_EMPTY_PATH) == 0 && S_ISDIR(st.st_mode));
    CHECK_FAILS(openat(99, "file", O_RDONLY), EBADF);
    int file = openat(top, "file", O_RDONLY);
    CHECK_FAILS(openat(file, "x", O_RDONLY), ENOTDIR);
    CHECK(faccessat(top, "file", R_OK, 0) == 0);
    CHECK(linkat(top, "file", top, "hard", 0) == 0 && renameat(top, "hard", top, "sub/moved") == 0);
    CHECK_FAILS(unlinkat(top, "sub", 0), EISDIR);
    CHECK_FAILS(unlinkat(top, "sub", AT_REMOVEDIR), ENOTEMPTY);
    list("top", top);

    // rename replaces its target at once, and refuses what makes no sense.
    CHECK(rename("top/sub/moved", "top/link") == 0);
    CHECK(fstatat(top, "link", &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode));
    CHECK_FAILS(rename("top", "top/sub/deeper"), EINVAL);
    CHECK_FAILS(rename("top/file", "top/sub"), EISDIR);
    CHECK_FAILS(rename("top/sub", "top/file"), ENOTDIR);
    CHECK_FAILS(syscall(SYS_renameat2, top, "file", top, "fifo", RENAME_NOREPLACE), EEXIST);

    // The working directory follows its directory through a rename.
    CHECK(chdir("top/sub") == 0);
    CHECK(renameat(top, "sub", top, "renamed") == 0);
    snprintf(path, sizeof path, "%s/top/renamed", here);
    char now[512];
    CHECK(getcwd(now, sizeof now) && strcmp(now, path) == 0);
    CHECK(fchdir(top) == 0 && chdir("..") == 0 && getcwd(now, sizeof now) && strcmp(now, here) == 0);
    CHECK(getcwd(now, 2) == NULL && errno == ERANGE);
    CHECK_FAILS(chdir("top/file"), ENOTDIR);
    CHECK_FAILS(rmdir("top"), ENOTEMPTY);
    CHECK(rmdir("top/renamed") == 0);
    CHECK_FAILS(rmdir("top/file"), ENOTDIR);
    CHECK_FAILS(rmdir("top/."), EINVAL);
    list("top", top);
    return 0;
}
