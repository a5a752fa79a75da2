// uname says Linux and the machine; the kernel is no older than what the C libraries need.
#include "check.h"
#include <sys/utsname.h>

int main(void) {
    struct utsname name;
    CHECK(uname(&name) == 0);
    CHECK(strcmp(name.sysname, "Linux") == 0 && name.nodename[0] && name.version[0]);
    int major, minor;
    CHECK(sscanf(name.release, "%d.%d", &major, &minor) == 2 && (major > 6 || (major == 6 && minor >= 1)));
#if defined __x86_64__
    CHECK(strcmp(name.machine, "x86_64") == 0);
#else
    CHECK(strcmp(name.machine, "aarch64") == 0);
#endif
    CHECK_FAILS(syscall(SYS_uname, bad_address), EFAULT);
    say("%s\n", name.sysname);
    return 0;
}
