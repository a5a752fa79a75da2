// Threads that end by the system call, behind the C library's back.
#pragma once
#include "check.h"
#include <linux/futex.h>

UNUSED static long futex(void *word, int operation, uint32_t value, const struct timespec *timeout) {
    return syscall(SYS_futex, word, operation, value, timeout, NULL, 0);
}

// exit(2) of the calling task alone.
__attribute__((noreturn)) UNUSED static void thread_exit(int code) {
    for (;;) syscall(SYS_exit, code);
}

// A word that the kernel clears when the calling task dies, instead of the C library's own.
UNUSED static void announce_death(uint32_t *word) {
    *(volatile uint32_t *)word = 1;
    syscall(SYS_set_tid_address, word);
}

// Until the task that announced its death on this word is gone. The kernel wakes one waiter, who passes it on.
UNUSED static void await_death(uint32_t *word) {
    while (*(volatile uint32_t *)word == 1) futex(word, FUTEX_WAIT, 1, NULL);
    futex(word, FUTEX_WAKE, INT32_MAX, NULL);
}

UNUSED static pthread_t start_thread(void *(*function)(void *), void *argument) {
    pthread_t thread;
    CHECK_PTHREAD(pthread_create(&thread, NULL, function, argument));
    return thread;
}
