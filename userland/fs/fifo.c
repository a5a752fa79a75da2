// A named pipe: opening waits for the other side, O_NONBLOCK does not, and end of file comes when the last writer is
// gone, however it went.
// concept: 7 files at death
#include "scratch.h"

int main(void) {
    scratch();
    CHECK(mkfifo("fifo", 0600) == 0);
    CHECK_FAILS(mkfifo("fifo", 0600), EEXIST);
    CHECK_FAILS(open("fifo", O_WRONLY | O_NONBLOCK), ENXIO);
    int reader = open("fifo", O_RDONLY | O_NONBLOCK);
    CHECK(reader >= 0 && read(reader, &(char){0}, 1) == 0 && close(reader) == 0);

    for (int way = 0; way < 3; way++) {
        pid_t pid = fork();
        if (pid == 0) {
            int writer = open("fifo", O_WRONLY);
            CHECK(write(writer, "text", 4) == 4);
            if (way == 1) kill(getpid(), SIGKILL);
            if (way == 2) syscall(SYS_exit, 0);
            _exit(0);
        }
        char text[8];
        reader = open("fifo", O_RDONLY);
        size_t length = 0;
        ssize_t got;
        while ((got = read(reader, text + length, sizeof text - length)) > 0) length += (size_t)got;
        CHECK(got == 0 && length == 4);
        say("%.4s, end of file, writer %s\n", text, status_text(status_of(pid)));
        close(reader);
    }
    // Both ends at once never wait, and have a reader.
    int both = open("fifo", O_RDWR);
    CHECK(both >= 0 && write(both, "x", 1) == 1 && read(both, &(char){0}, 1) == 1);

    // An open that waits is interrupted by a signal.
    close(both);
    pid_t pid = fork();
    if (pid == 0) {
        open("fifo", O_WRONLY);
        _exit(0);
    }
    sleep_ms(10);
    CHECK(kill(pid, SIGTERM) == 0);
    say("killed while opening: %s\n", status_text(status_of(pid)));
    return 0;
}
