// A signal that dumps core: the status says so, and the file is an ELF core with notes for every thread; none is
// written at RLIMIT_CORE 0, by SIGKILL, or for a process that is not dumpable.
// concept: 6 signals
// qemu: no (it writes cores of its own)
#include "scratch.h"
#include "thread.h"
#include <dirent.h>
#include <elf.h>
#include <link.h>
#include <sys/prctl.h>

enum { NOTE_FILE = 0x46494c45, NOTE_SIGINFO = 0x53494749 };

static struct gate ready;

static void *sleeps(void *unused) {
    gate_open(ready);
    for (;;) pause();
    return unused;
}

// Whether cores go into the working directory here; a pattern that is a program takes them whatever the limit.
static bool into_directory(void) {
    char pattern[128] = "";
    int fd = open("/proc/sys/kernel/core_pattern", O_RDONLY);
    CHECK(fd >= 0 && read(fd, pattern, sizeof pattern - 1) > 0 && close(fd) == 0);
    return pattern[0] != '|' && !strchr(pattern, '/');
}

// The files in the directory, each moved to "core": how many there are.
static int collect(void) {
    DIR *directory = opendir(".");
    int count = 0;
    for (struct dirent *entry; (entry = readdir(directory));) {
        if (entry->d_name[0] == '.') continue;
        CHECK(rename(entry->d_name, "core") == 0);
        count++;
    }
    CHECK(closedir(directory) == 0);
    return count;
}

static void look(void) {
    static char notes[65536];
    ElfW(Ehdr) header;
    int fd = open("core", O_RDONLY), threads = 0, loads = 0, info = 0, auxv = 0, files = 0, floating = 0, signals = 0;
    CHECK(fd >= 0 && read(fd, &header, sizeof header) == sizeof header);
    CHECK(memcmp(header.e_ident, ELFMAG, SELFMAG) == 0 && header.e_type == ET_CORE);
    for (size_t i = 0; i < header.e_phnum; i++) {
        ElfW(Phdr) segment;
        CHECK(pread(fd, &segment, sizeof segment, (off_t)(header.e_phoff + i * sizeof segment)) > 0);
        loads += segment.p_type == PT_LOAD;
        if (segment.p_type != PT_NOTE) continue;
        CHECK(segment.p_filesz <= sizeof notes);
        CHECK(pread(fd, notes, segment.p_filesz, (off_t)segment.p_offset) == (ssize_t)segment.p_filesz);
        for (size_t at = 0; at + sizeof(ElfW(Nhdr)) <= segment.p_filesz;) {
            const ElfW(Nhdr) *note = (const void *)(notes + at);
            threads += note->n_type == NT_PRSTATUS;
            floating += note->n_type == NT_FPREGSET;
            info += note->n_type == NT_PRPSINFO;
            auxv += note->n_type == NT_AUXV;
            files += note->n_type == NOTE_FILE;
            signals += note->n_type == NOTE_SIGINFO;
            at += sizeof *note + ((note->n_namesz + 3) & ~3u) + ((note->n_descsz + 3) & ~3u);
        }
    }
    CHECK(close(fd) == 0 && unlink("core") == 0 && loads > 3);
    CHECK(threads == 3 && floating == 3 && info == 1 && signals == 1 && auxv == 1 && files == 1);
}

int main(void) {
    scratch();
    ready = gate_new();
    static const char *const names[] = {"SIGSEGV", "SIGQUIT", "SIGABRT", "RLIMIT_CORE 0", "SIGKILL", "not dumpable"};
    bool here = into_directory();
    for (int way = 0; way < 6; way++) {
        pid_t pid = fork();
        CHECK(pid >= 0);
        if (pid == 0) {
            struct rlimit limit = {way == 3 ? 0 : RLIM_INFINITY, RLIM_INFINITY};
            CHECK(setrlimit(RLIMIT_CORE, &limit) == 0);
            for (int i = 0; i < 2; i++) start_thread(sleeps, NULL), gate_wait(ready);
            if (way == 5) CHECK(prctl(PR_SET_DUMPABLE, 0) == 0);
            if (way == 1) kill(getpid(), SIGQUIT);
            if (way == 2) abort();
            if (way == 4) kill(getpid(), SIGKILL);
            *(volatile char *)bad_address = 1;
        }
        int status = status_of(pid);
        bool wanted = way < 3;
        if (here) {
            CHECK(collect() == wanted && !!WCOREDUMP(status) == wanted);
            if (wanted) look();
        }
        say("%s: %s, %s\n", names[way], status_text(status), wanted ? "a core with notes for 3 threads" : "no core");
    }
    return 0;
}
