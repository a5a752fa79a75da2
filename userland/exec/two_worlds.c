// A pipe joins two programs: one writes what the other, started by execve, reads. The other may be built for another
// architecture: with its path as the argument, both say what they run on.
// concept: 10 static and dynamic
// qemu: no (it executes itself, which a host without binfmt_misc refuses)
#include "check.h"
#include <sys/utsname.h>

static const char *machine(bool tell) {
    static struct utsname name;
    CHECK(uname(&name) == 0);
    return tell ? name.machine : "the same program";
}

int main(int argc, char **argv) {
    if (argc > 2) {
        char line[64] = "";
        CHECK(read(0, line, sizeof line - 1) > 0);
        say("read by %s: %s", machine(argv[2][0] == 'y'), line);
        return 0;
    }
    const char *other = argc > 1 ? argv[1] : "/proc/self/exe", *tell = argc > 1 ? "yes" : "no";
    int ends[2];
    CHECK(pipe(ends) == 0);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        CHECK(dup2(ends[0], 0) == 0 && close(ends[0]) == 0 && close(ends[1]) == 0);
        execl(other, other, "read", tell, NULL);
        CHECK(!"execl came back");
    }
    char line[64];
    int length = snprintf(line, sizeof line, "written by %s\n", machine(argc > 1));
    CHECK(write(ends[1], line, length) == length);
    CHECK(status_of(pid) == 0);
    return 0;
}
