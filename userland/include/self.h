// The way to execute the running program again.
#pragma once
#include "check.h"
#include <limits.h>
#include <sys/auxv.h>

// Absolute path of the running program: what execve was given, made absolute. Call it before any chdir.
UNUSED static const char *self_path(void) {
    static char path[PATH_MAX];
    if (!path[0]) CHECK(realpath((const char *)getauxval(AT_EXECFN), path));
    return path;
}

// Replace this program by itself with the given arguments, the last of them NULL.
__attribute__((noreturn)) UNUSED static void exec_self(const char *first, const char *second) {
    char *arguments[] = {(char *)self_path(), (char *)first, (char *)second, NULL};
    execv(self_path(), arguments);
    check_failed(__FILE__, __LINE__, "execv of this program");
}
