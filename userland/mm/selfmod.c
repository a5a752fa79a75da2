// Code written at run time is executed as written: fresh, overwritten, through a second mapping, and after a fork.
// qemu: no (it does not see code written through a second mapping)
#include "check.h"

#if defined __x86_64__
// mov eax, imm32; ret
static void emit(unsigned char *at, uint32_t value) {
    at[0] = 0xb8;
    memcpy(at + 1, &value, 4);
    at[5] = 0xc3;
}
#else
// movz w0, #value; ret
static void emit(unsigned char *at, uint32_t value) {
    uint32_t code[2] = {0x52800000u | value << 5, 0xd65f03c0u};
    memcpy(at, code, sizeof code);
}
#endif

static int call(unsigned char *at) { return ((int (*)(void))(uintptr_t)at)(); }

static void flush(unsigned char *at) { __builtin___clear_cache((char *)at, (char *)at + 16); }

int main(void) {
    const size_t page = 4096;
    unsigned char *code = mmap(NULL, page, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(code != MAP_FAILED);
    for (uint32_t i = 0; i < 20; i++) {
        emit(code, i);
        flush(code);
        CHECK(call(code) == (int)i);
    }

    // Written while writable, run while executable: the way of a just-in-time compiler.
    for (uint32_t i = 100; i < 103; i++) {
        CHECK(mprotect(code, page, PROT_READ | PROT_WRITE) == 0);
        emit(code, i);
        emit(code + 64, i + 50);
        CHECK(mprotect(code, page, PROT_READ | PROT_EXEC) == 0);
        flush(code);
        flush(code + 64);
        CHECK(call(code) == (int)i && call(code + 64) == (int)i + 50);
    }

    // Through a second mapping of the same memory.
    int fd = (int)syscall(SYS_memfd_create, "code", 0);
    CHECK(fd >= 0 && ftruncate(fd, page) == 0);
    unsigned char *writable = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    unsigned char *runnable = mmap(NULL, page, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
    CHECK(writable != MAP_FAILED && runnable != MAP_FAILED);
    for (uint32_t i = 0; i < 5; i++) {
        emit(writable, 200 + i);
        flush(runnable);
        CHECK(call(runnable) == 200 + (int)i);
    }

    // By the kernel: pwrite to the file, read into memory.
    unsigned char image[16] = {0};
    emit(image, 300);
    CHECK(pwrite(fd, image, sizeof image, 0) == sizeof image);
    flush(runnable);
    CHECK(call(runnable) == 300);
    CHECK(mprotect(code, page, PROT_READ | PROT_WRITE | PROT_EXEC) == 0 && lseek(fd, 0, SEEK_SET) == 0);
    CHECK(read(fd, code, sizeof image) == sizeof image);
    flush(code);
    CHECK(call(code) == 300);

    // A child's new code is its own.
    pid_t pid = fork();
    if (pid == 0) {
        emit(code, 400);
        flush(code);
        CHECK(call(code) == 400);
        _exit(0);
    }
    CHECK(status_of(pid) == 0 && call(code) == 300);

    // Fresh memory at an address where other code was.
    CHECK(mmap(code, page, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == code);
    emit(code, 500);
    flush(code);
    CHECK(call(code) == 500);
    say("code as written\n");
    return 0;
}
