// Unix sockets: streams, datagrams with borders, descriptors passed along, credentials, end of file, shutdown, names in
// the file system and abstract ones.
#include "scratch.h"
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

static void send_fd(int socket, int fd) {
    char control[CMSG_SPACE(sizeof fd)] = {0}, byte = 'f';
    struct iovec vector = {&byte, 1};
    struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1, .msg_control = control,
                             .msg_controllen = sizeof control};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET, header->cmsg_type = SCM_RIGHTS, header->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(header), &fd, sizeof fd);
    CHECK(sendmsg(socket, &message, 0) == 1);
}

static int receive_fd(int socket) {
    int fd = -1;
    char control[CMSG_SPACE(sizeof fd)] = {0}, byte;
    struct iovec vector = {&byte, 1};
    struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1, .msg_control = control,
                             .msg_controllen = sizeof control};
    CHECK(recvmsg(socket, &message, 0) == 1);
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    CHECK(header && header->cmsg_type == SCM_RIGHTS);
    memcpy(&fd, CMSG_DATA(header), sizeof fd);
    return fd;
}

int main(void) {
    scratch();
    int pair[2];
    char buffer[64];
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
    CHECK(write(pair[0], "abc", 3) == 3 && write(pair[0], "def", 3) == 3);
    CHECK(recv(pair[1], buffer, 4, MSG_PEEK) == 4 && recv(pair[1], buffer, 64, 0) == 6);
    CHECK_FAILS(recv(pair[1], buffer, 64, MSG_DONTWAIT), EAGAIN);
    CHECK(write(pair[1], "back", 4) == 4 && read(pair[0], buffer, 64) == 4);
    CHECK(shutdown(pair[0], SHUT_WR) == 0 && read(pair[1], buffer, 64) == 0);
    CHECK(write(pair[1], "still", 5) == 5 && read(pair[0], buffer, 64) == 5);
    CHECK_FAILS(send(pair[0], "x", 1, MSG_NOSIGNAL), EPIPE);
    struct ucred peer;
    socklen_t length = sizeof peer;
    CHECK(getsockopt(pair[0], SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0 && peer.pid == getpid());
    say("stream\n");

    CHECK(close(pair[0]) == 0 && close(pair[1]) == 0 && socketpair(AF_UNIX, SOCK_DGRAM, 0, pair) == 0);
    CHECK(send(pair[0], "one", 3, 0) == 3 && send(pair[0], "", 0, 0) == 0 && send(pair[0], "three", 5, 0) == 5);
    CHECK(recv(pair[1], buffer, 2, MSG_TRUNC) == 3 && recv(pair[1], buffer, 64, 0) == 0);
    CHECK(recv(pair[1], buffer, 64, 0) == 5);
    say("datagrams\n");

    // A descriptor in a message is a new one for the same open file, also when the sender has died.
    int ends[2];
    CHECK(pipe(ends) == 0);
    pid_t pid = fork();
    if (pid == 0) {
        send_fd(pair[0], ends[1]);
        _exit(0);
    }
    CHECK(status_of(pid) == 0 && close(ends[1]) == 0);
    CHECK(poll(&(struct pollfd){ends[0], POLLIN, 0}, 1, 0) == 0);
    int fd = receive_fd(pair[1]);
    CHECK(write(fd, "passed", 6) == 6 && read(ends[0], buffer, 64) == 6);
    CHECK(close(fd) == 0 && read(ends[0], buffer, 64) == 0);
    // In flight when both sockets close: released all the same.
    CHECK(close(ends[0]) == 0 && pipe(ends) == 0);
    send_fd(pair[0], ends[1]);
    CHECK(close(ends[1]) == 0 && close(pair[0]) == 0 && close(pair[1]) == 0 && read(ends[0], buffer, 64) == 0);
    say("a descriptor passed\n");

    for (int abstract = 0; abstract < 2; abstract++) {
        struct sockaddr_un name = {.sun_family = AF_UNIX};
        snprintf(name.sun_path + abstract, sizeof name.sun_path - 1, "socket-%d", abstract ? getpid() : 0);
        socklen_t size = (socklen_t)(sizeof name.sun_family + abstract + strlen(name.sun_path + abstract) + !abstract);
        int server = socket(AF_UNIX, SOCK_STREAM, 0), client = socket(AF_UNIX, SOCK_STREAM, 0);
        CHECK(connect(client, (void *)&name, size) == -1 && errno == (abstract ? ECONNREFUSED : ENOENT));
        CHECK(bind(server, (void *)&name, size) == 0);
        CHECK_FAILS(connect(client, (void *)&name, size), ECONNREFUSED);
        CHECK(listen(server, 4) == 0 && connect(client, (void *)&name, size) == 0);
        CHECK_FAILS(bind(socket(AF_UNIX, SOCK_STREAM, 0), (void *)&name, size), EADDRINUSE);
        int accepted = accept4(server, NULL, NULL, SOCK_CLOEXEC);
        CHECK(accepted >= 0 && write(client, "named", 5) == 5 && read(accepted, buffer, 64) == 5);
        CHECK(close(client) == 0 && read(accepted, buffer, 64) == 0);
        say("%s name\n", abstract ? "abstract" : "file system");
        close(accepted), close(server);
    }
    CHECK_FAILS(send(open("/dev/null", O_RDWR), "x", 1, 0), ENOTSOCK);
    return 0;
}
