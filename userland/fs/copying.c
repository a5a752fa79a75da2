// Data moved inside the kernel: sendfile, copy_file_range, splice and tee; offsets advance as they should.
#include "scratch.h"
#include <sys/sendfile.h>

int main(void) {
    scratch();
    int from = open("from", O_RDWR | O_CREAT, 0600), to = open("to", O_RDWR | O_CREAT, 0600);
    char text[64] = "";
    CHECK(write(from, "0123456789", 10) == 10);
    off_t offset = 2;
    CHECK(sendfile(to, from, &offset, 4) == 4 && offset == 6 && lseek(from, 0, SEEK_CUR) == 10);
    CHECK(lseek(from, 8, SEEK_SET) == 8 && sendfile(to, from, NULL, 100) == 2 && lseek(from, 0, SEEK_CUR) == 10);
    CHECK(pread(to, text, 64, 0) == 6 && memcmp(text, "234589", 6) == 0);

    off_t in = 0, out = 3;
    CHECK(copy_file_range(from, &in, to, &out, 5, 0) == 5 && in == 5 && out == 8);
    CHECK(pread(to, text, 64, 0) == 8 && memcmp(text, "23401234", 8) == 0);
    CHECK_FAILS(copy_file_range(from, &in, to, &out, 5, 1), EINVAL);

    int one[2], two[2];
    CHECK(pipe(one) == 0 && pipe(two) == 0);
    in = 1;
    CHECK(splice(from, &in, one[1], NULL, 5, 0) == 5 && in == 6);
    // tee leaves what it copies.
    CHECK(tee(one[0], two[1], 3, 0) == 3);
    CHECK(read(two[0], text, 64) == 3 && memcmp(text, "123", 3) == 0);
    out = 0;
    CHECK(splice(one[0], NULL, to, &out, 64, 0) == 5 && pread(to, text, 5, 0) == 5 && memcmp(text, "12345", 5) == 0);
    CHECK_FAILS(splice(from, NULL, to, NULL, 5, 0), EINVAL);
    CHECK_FAILS(tee(from, one[1], 1, 0), EINVAL);
    close(one[1]);
    CHECK(splice(one[0], NULL, to, NULL, 5, 0) == 0);

    CHECK(fallocate(to, 0, 0, 5000) == 0 && lseek(to, 0, SEEK_END) == 5000);
    CHECK(fallocate(to, FALLOC_FL_KEEP_SIZE, 0, 9000) == 0 && lseek(to, 0, SEEK_END) == 5000);
    CHECK(fsync(to) == 0 && fdatasync(to) == 0);
    CHECK_FAILS(fsync(one[0]), EINVAL);
    say("copied\n");
    return 0;
}
