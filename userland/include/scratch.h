// A directory of the program's own to make files in; it is removed with all that is in it when the program exits.
#pragma once
#include "check.h"
#include <ftw.h>

static char scratch_path[256];
static pid_t scratch_owner;

UNUSED static int scratch_remove_one(const char *path, const struct stat *st, int kind, struct FTW *ftw) {
    (void)st, (void)kind, (void)ftw;
    return remove(path);
}

UNUSED static void scratch_remove(void) {
    if (getpid() == scratch_owner && chdir("/") == 0)
        nftw(scratch_path, scratch_remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

// Make the directory and go there.
UNUSED static void scratch(void) {
    const char *parent = getenv("TMPDIR");
    snprintf(scratch_path, sizeof scratch_path, "%s/scratch.XXXXXX", parent ? parent : "/tmp");
    CHECK(mkdtemp(scratch_path) && chdir(scratch_path) == 0);
    scratch_owner = getpid();
    CHECK(atexit(scratch_remove) == 0);
}
