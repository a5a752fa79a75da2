// mremap grows, shrinks and moves a mapping with its contents; madvise(MADV_DONTNEED) brings zeros, or the file, back.
// qemu: no (it takes its own errors for those of mremap)
#include "fault.h"
#include "scratch.h"

int main(void) {
    const size_t page = 4096;
    const int rw = PROT_READ | PROT_WRITE;
    char *area = mmap(NULL, 8 * page, rw, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(area != MAP_FAILED);
    memset(area, 'a', 2 * page);
    CHECK(munmap(area + 4 * page, 4 * page) == 0);

    // Grow in place into the free space, shrink, and move when there is no room.
    CHECK(mremap(area, 4 * page, 6 * page, 0) == area && area[5 * page] == 0);
    CHECK(mremap(area, 6 * page, 2 * page, 0) == area && area[2 * page - 1] == 'a');
    say_fault("load behind the shrunk mapping", try_fault(load8, area + 2 * page), area);
    char *wall = mmap(area + 2 * page, page, rw, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    CHECK(wall == area + 2 * page);
    CHECK(mprotect(wall, page, PROT_READ) == 0);
    CHECK_FAILS(mremap(area, 2 * page, 5 * page, 0), ENOMEM);
    char *moved = mremap(area, 2 * page, 5 * page, MREMAP_MAYMOVE);
    CHECK(moved != MAP_FAILED && moved != area && moved[0] == 'a' && moved[2 * page - 1] == 'a' && moved[4 * page] == 0);
    say_fault("load from where it was", try_fault(load8, area), area);

    char *target = mmap(NULL, page, rw, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    target[0] = 't';
    CHECK(mremap(moved, page, page, MREMAP_MAYMOVE | MREMAP_FIXED, target) == target && target[0] == 'a');
    say_fault("load from the moved page", try_fault(load8, moved), moved);
    CHECK_FAILS(mremap(moved + 1, page, page, MREMAP_MAYMOVE), EINVAL);
    CHECK_FAILS(mremap(moved, page, page, MREMAP_MAYMOVE), EFAULT);
    CHECK_FAILS(mremap(target, page, 0, MREMAP_MAYMOVE), EINVAL);
    CHECK_FAILS(mremap(target, page, page, MREMAP_FIXED, area), EINVAL);

    // MADV_DONTNEED drops the pages: anonymous memory is zero again, a private file mapping shows the file again.
    CHECK(madvise(target, page, MADV_DONTNEED) == 0 && target[0] == 0);
    scratch();
    int fd = open("file", O_RDWR | O_CREAT, 0600);
    CHECK(write(fd, "file", 4) == 4);
    char *private = mmap(NULL, page, rw, MAP_PRIVATE, fd, 0);
    private[0] = 'P';
    CHECK(madvise(private, page, MADV_DONTNEED) == 0 && private[0] == 'f');
    CHECK_FAILS(madvise(private + 1, page, MADV_DONTNEED), EINVAL);
    CHECK_FAILS(madvise(private, page, 12345), EINVAL);

    unsigned char resident[4];
    char *touched = mmap(NULL, 2 * page, rw, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    touched[0] = 1;
    CHECK(mincore(touched, 2 * page, resident) == 0 && (resident[0] & 1) && !(resident[1] & 1));
    CHECK(munmap(touched, page) == 0);
    CHECK_FAILS(mincore(touched, page, resident), ENOMEM);
    CHECK_FAILS(madvise(touched, page, MADV_DONTNEED), ENOMEM);
    say("mremap and madvise as they should be\n");
    return 0;
}
