// mmap and munmap: zeroed pages, fixed addresses, hints, files private and shared, and everything mmap refuses.
// qemu: no (MAP_FIXED_NOREPLACE is not known to it)
#include "fault.h"
#include "scratch.h"

static const size_t page = 4096;

int main(void) {
    scratch();
    const int anonymous = MAP_PRIVATE | MAP_ANONYMOUS, rw = PROT_READ | PROT_WRITE;
    unsigned char *area = mmap(NULL, 4 * page, rw, anonymous, -1, 0);
    CHECK(area != MAP_FAILED && (uintptr_t)area % page == 0);
    for (size_t i = 0; i < 4 * page; i++) CHECK(area[i] == 0);
    memset(area, 1, 4 * page);

    // A hole in the middle; its neighbours keep their contents, and unmapping it again is no error.
    CHECK(munmap(area + page, page) == 0 && munmap(area + page, page) == 0);
    CHECK(area[0] == 1 && area[2 * page] == 1);
    say_fault("load from the hole", try_fault(load8, area + page + 17), area);

    // MAP_FIXED replaces what is there with fresh zeros; MAP_FIXED_NOREPLACE refuses; a free hint is honoured.
    CHECK(mmap(area + 2 * page, page, rw, anonymous | MAP_FIXED, -1, 0) == area + 2 * page);
    CHECK(area[2 * page] == 0 && area[3 * page] == 1);
    CHECK_FAILS(mmap(area + 2 * page, page, rw, anonymous | MAP_FIXED_NOREPLACE, -1, 0), EEXIST);
    CHECK(mmap(area + page, page, rw, anonymous, -1, 0) == area + page);
    CHECK(area[page] == 0);
    CHECK(mmap(area + page, page, rw, anonymous, -1, 0) != area + page);

    CHECK_FAILS(mmap(NULL, 0, rw, anonymous, -1, 0), EINVAL);
    CHECK_FAILS(mmap(NULL, page, rw, MAP_ANONYMOUS, -1, 0), EINVAL);
    CHECK_FAILS(mmap(area + 1, page, rw, anonymous | MAP_FIXED, -1, 0), EINVAL);
    CHECK_FAILS(mmap(NULL, page, rw, MAP_PRIVATE, 99, 0), EBADF);
    CHECK_FAILS(mmap(NULL, (size_t)1 << 60, rw, anonymous, -1, 0), ENOMEM);
    CHECK_FAILS(syscall(SYS_munmap, area + 1, page), EINVAL);
    CHECK_FAILS(syscall(SYS_munmap, area, 0), EINVAL);

    // A file of one page and a half: shared stores reach it, private ones do not, the tail of the page reads as zeros.
    int fd = open("file", O_RDWR | O_CREAT, 0600);
    static char bytes[6144];
    memset(bytes, 'f', sizeof bytes);
    CHECK(write(fd, bytes, sizeof bytes) == sizeof bytes);
    CHECK_FAILS(mmap(NULL, page, rw, MAP_SHARED, fd, 100), EINVAL);
    char *shared = mmap(NULL, 2 * page, rw, MAP_SHARED, fd, 0);
    char *private = mmap(NULL, page, rw, MAP_PRIVATE, fd, page);
    CHECK(shared != MAP_FAILED && private != MAP_FAILED && private[0] == 'f' && private[2048] == 0);
    shared[0] = 'S';
    private[0] = 'P';
    char seen;
    CHECK(pread(fd, &seen, 1, 0) == 1 && seen == 'S');
    CHECK(pread(fd, &seen, 1, page) == 1 && seen == 'f');
    CHECK(pwrite(fd, "W", 1, 1) == 1 && shared[1] == 'W');
    CHECK(msync(shared, 2 * page, MS_SYNC) == 0);
    // The mapping outlives the descriptor.
    CHECK(close(fd) == 0 && shared[page] == 'f');
    int reader = open("file", O_RDONLY);
    CHECK_FAILS(mmap(NULL, page, rw, MAP_SHARED, reader, 0), EACCES);
    CHECK(mmap(NULL, page, rw, MAP_PRIVATE, reader, 0) != MAP_FAILED);
    int writer = open("file", O_WRONLY);
    CHECK_FAILS(mmap(NULL, page, PROT_READ, MAP_SHARED, writer, 0), EACCES);
    int directory = open(".", O_RDONLY);
    CHECK_FAILS(mmap(NULL, page, PROT_READ, MAP_SHARED, directory, 0), ENODEV);
    say("mmap as it should be\n");
    return 0;
}
