// execveat: relative to a directory, of a descriptor itself, and of a file that has no name any more. The running
// program keeps its file when another takes its name.
// concept: 10 static and dynamic
// qemu: no (it cannot execute a foreign binary without binfmt_misc)
#include "scratch.h"
#include "self.h"

static int execveat_(int fd, const char *path, const char *argument, int flags) {
    char *arguments[] = {"program", (char *)argument, NULL}, *environment[] = {NULL};
    return (int)syscall(SYS_execveat, fd, path, arguments, environment, flags);
}

static void copy(const char *from, const char *to) {
    static char buffer[65536];
    int in = open(from, O_RDONLY), out = open(to, O_CREAT | O_WRONLY | O_EXCL, 0755);
    CHECK(in >= 0 && out >= 0);
    ssize_t got;
    while ((got = read(in, buffer, sizeof buffer)) > 0) CHECK(write(out, buffer, (size_t)got) == got);
    CHECK(close(in) == 0 && close(out) == 0);
}

int main(int argc, char **argv) {
    if (argc > 1) {
        if (argc > 2) gate_wait((struct gate){atoi(argv[2]), -1});
        say("running: %s\n", argv[1]);
        return 0;
    }
    const char *self = self_path();
    scratch();
    CHECK(mkdir("directory", 0755) == 0);
    copy(self, "directory/program");
    int directory = open("directory", O_RDONLY | O_DIRECTORY), program = open("directory/program", O_RDONLY | O_CLOEXEC);
    CHECK(symlink("program", "directory/link") == 0);

    static const char *const names[] = {"relative to a directory", "of a descriptor", "of an unlinked file"};
    for (int way = 0; way < 3; way++) {
        if (way == 2) CHECK(unlink("directory/program") == 0);
        pid_t pid = fork();
        if (pid == 0) {
            if (way == 0) execveat_(directory, "program", names[way], 0);
            else execveat_(program, "", names[way], AT_EMPTY_PATH);
            _exit(9);
        }
        CHECK(status_of(pid) == 0);
    }
    CHECK_FAILS(execveat_(program, "", "x", 0), ENOENT);
    CHECK_FAILS(execveat_(directory, "link", "x", AT_SYMLINK_NOFOLLOW), ELOOP);
    CHECK_FAILS(execveat_(99, "program", "x", 0), EBADF);
    CHECK_FAILS(execveat_(directory, "", "x", AT_EMPTY_PATH), EACCES);

    // Replaced by rename while it runs: the process goes on with the old file, the next exec takes the new one.
    copy(self, "program");
    struct gate go = gate_new();
    int ready[2];
    char number[12];
    CHECK(pipe2(ready, O_CLOEXEC) == 0 && fcntl(go.read_end, F_SETFD, 0) == 0);
    snprintf(number, sizeof number, "%d", go.read_end);
    pid_t pid = fork();
    if (pid == 0) {
        execl("./program", "program", "from the old file", number, NULL);
        _exit(9);
    }
    close(ready[1]);
    CHECK(read(ready[0], &(char){0}, 1) == 0);
    copy(self, "new");
    CHECK(rename("new", "program") == 0);
    gate_open(go);
    CHECK(status_of(pid) == 0);
    pid = fork();
    if (pid == 0) {
        execl("./program", "program", "from the new file", NULL);
        _exit(9);
    }
    return status_of(pid) != 0;
}
