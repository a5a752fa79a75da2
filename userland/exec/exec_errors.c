// The ways in which execve fails, and the programs with an interpreter: #! with one argument, nested, and too deep.
// concept: 10 static and dynamic
// qemu: no (it cannot execute a foreign binary without binfmt_misc)
#include "scratch.h"
#include "self.h"

static void write_file(const char *name, const char *text, int mode) {
    int fd = open(name, O_CREAT | O_WRONLY | O_TRUNC, 0600);
    CHECK(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    CHECK(fchmod(fd, (mode_t)mode) == 0 && close(fd) == 0);
}

static void try(const char *label, const char *path) {
    char *arguments[] = {"zero", "one", NULL}, *environment[] = {NULL};
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        execve(path, arguments, environment);
        say("%s: %s\n", label, errno_name(errno));
        _exit(0);
    }
    CHECK(status_of(pid) == 0);
}

int main(int argc, char **argv) {
    if (argc > 1) {
        // As an interpreter: show what we were given; names are relative to the directory.
        say("run as:");
        for (int i = 1; i < argc; i++) say(" [%s]", argv[i]);
        say("\n");
        return 0;
    }
    char text[4200];
    const char *self = self_path();
    scratch();
    CHECK(symlink(self, "interpreter") == 0);
    CHECK(mkdir("directory", 0755) == 0);
    write_file("empty", "", 0755);
    write_file("text", "no program\n", 0755);
    write_file("not-executable", "#!interpreter\n", 0644);
    write_file("elf", "\177ELF and then nothing", 0755);
    try("missing", "missing");
    try("directory", "directory");
    try("not executable", "not-executable");
    try("empty", "empty");
    try("text", "text");
    try("cut ELF", "elf");
    try("component is a file", "text/x");
    try("empty name", "");

    write_file("script", "#!interpreter\n", 0755);
    try("script", "script");
    write_file("script", "#! \t interpreter   one argument with blanks  \n", 0755);
    try("script with an argument", "./script");
    write_file("script", "#!missing\n", 0755);
    try("script with a missing interpreter", "script");
    write_file("script", "#!\n", 0755);
    try("script without one", "script");
    write_file("script-0", "#!interpreter\n", 0755);
    for (int i = 1; i < 8; i++) {
        char name[16], line[32];
        snprintf(name, sizeof name, "script-%d", i);
        snprintf(line, sizeof line, "#!script-%d\n", i - 1);
        write_file(name, line, 0755);
    }
    try("interpreters of interpreters", "script-4");
    try("too many of them", "script-5");
    memset(text, 'x', sizeof text);
    memcpy(text, "#!", 2);
    text[sizeof text - 1] = 0;
    write_file("script", text, 0755);
    try("line without an end", "script");

    // A file open for writing is not executed, a running one not written.
    int fd = open("script-0", O_WRONLY);
    try("open for writing", "script-0");
    close(fd);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        fd = open(self, O_WRONLY);
        say("writing to the running program: %s\n", fd >= 0 ? "allowed" : errno_name(errno));
        _exit(0);
    }
    CHECK(status_of(pid) == 0);

    // Too much: one string over 128 KiB, then too many of the allowed size.
    static char big[131073];
    memset(big, 'a', sizeof big - 1);
    char *arguments[] = {"zero", big, NULL}, *environment[] = {NULL};
    CHECK_FAILS(execve("interpreter", arguments, environment), E2BIG);
    static char *many[200];
    big[131000] = 0;
    for (int i = 0; i < 199; i++) many[i] = big;
    CHECK_FAILS(execve("interpreter", many, environment), E2BIG);
    CHECK_FAILS(execve("interpreter", (char **)bad_address, environment), EFAULT);
    CHECK_FAILS(execve(bad_address, arguments, environment), EFAULT);
    say("too much is E2BIG\n");
    return 0;
}
