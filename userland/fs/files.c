// A regular file: offsets, holes, append, pread and pwrite, vectors, truncation, and life after its name is gone.
#include "scratch.h"
#include <sys/uio.h>

static off_t size_of(int fd) {
    struct stat st;
    CHECK(fstat(fd, &st) == 0);
    return st.st_size;
}

int main(void) {
    scratch();
    char buffer[64] = "";
    CHECK_FAILS(open("file", O_RDWR), ENOENT);
    int fd = open("file", O_RDWR | O_CREAT | O_EXCL, 0640);
    CHECK(fd >= 0);
    CHECK_FAILS(open("file", O_RDWR | O_CREAT | O_EXCL, 0640), EEXIST);
    CHECK_FAILS(open("file", O_RDONLY | O_DIRECTORY), ENOTDIR);
    CHECK_FAILS(open("file/below", O_RDONLY), ENOTDIR);
    CHECK_FAILS(open(".", O_WRONLY), EISDIR);

    CHECK(write(fd, "hello", 5) == 5 && lseek(fd, 0, SEEK_CUR) == 5 && size_of(fd) == 5);
    CHECK(read(fd, buffer, 10) == 0);
    CHECK(lseek(fd, -3, SEEK_END) == 2 && read(fd, buffer, 10) == 3 && memcmp(buffer, "llo", 3) == 0);
    CHECK_FAILS(lseek(fd, -1, SEEK_SET), EINVAL);
    CHECK_FAILS(lseek(fd, 0, 99), EINVAL);

    // A seek beyond the end makes a hole of zeros at the next write only.
    CHECK(lseek(fd, 100, SEEK_SET) == 100 && size_of(fd) == 5);
    CHECK(write(fd, "x", 1) == 1 && size_of(fd) == 101);
    CHECK(pread(fd, buffer, 10, 4) == 10 && memcmp(buffer, "o\0\0\0\0\0\0\0\0\0", 10) == 0);
    CHECK(lseek(fd, 0, SEEK_CUR) == 101);
    CHECK(pwrite(fd, "HE", 2, 0) == 2 && lseek(fd, 0, SEEK_CUR) == 101);
    CHECK_FAILS(pread(fd, buffer, 1, -1), EINVAL);

    struct iovec out[] = {{"one", 3}, {"", 0}, {"two", 3}}, in[] = {{buffer, 2}, {buffer + 10, 4}};
    CHECK(lseek(fd, 0, SEEK_SET) == 0 && writev(fd, out, 3) == 6);
    CHECK(lseek(fd, 0, SEEK_SET) == 0 && readv(fd, in, 2) == 6);
    CHECK(memcmp(buffer, "on", 2) == 0 && memcmp(buffer + 10, "etwo", 4) == 0);

    CHECK(ftruncate(fd, 3) == 0 && size_of(fd) == 3 && pread(fd, buffer, 64, 0) == 3);
    CHECK(ftruncate(fd, 8) == 0 && pread(fd, buffer, 64, 0) == 8 && memcmp(buffer, "one\0\0\0\0\0", 8) == 0);
    CHECK_FAILS(ftruncate(fd, -1), EINVAL);

    // O_APPEND goes to the end whatever the offset says; O_TRUNC empties.
    int append = open("file", O_WRONLY | O_APPEND);
    CHECK(pwrite(fd, "longer than eight", 17, 0) == 17);
    CHECK(write(append, "!", 1) == 1 && size_of(fd) == 18 && lseek(append, 0, SEEK_CUR) == 18);
    CHECK_FAILS(read(append, buffer, 1), EBADF);
    int reader = open("file", O_RDONLY);
    CHECK_FAILS(write(reader, "x", 1), EBADF);
    CHECK_FAILS(ftruncate(reader, 0), EINVAL);
    CHECK(close(open("file", O_WRONLY | O_TRUNC)) == 0 && size_of(fd) == 0);

    // Bad addresses are errors, not faults.
    CHECK_FAILS(write(fd, bad_address, 5), EFAULT);
    CHECK(pwrite(fd, "abc", 3, 0) == 3);
    CHECK_FAILS(pread(fd, bad_address, 3, 0), EFAULT);

    // Without its name the file lives on until the last descriptor goes.
    CHECK(unlink("file") == 0);
    CHECK_FAILS(open("file", O_RDONLY), ENOENT);
    struct stat st;
    CHECK(fstat(fd, &st) == 0 && st.st_nlink == 0 && pread(fd, buffer, 3, 0) == 3);
    say("files as they should be\n");
    return 0;
}
