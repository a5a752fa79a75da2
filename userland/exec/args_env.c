// What execve leaves on the new stack: arguments, environment and the auxiliary vector, each where the ABI puts it.
// concept: 10 static and dynamic
// run: one "two words" "" last => 0
#include "check.h"
#include <elf.h>
#include <link.h>
#include <sys/auxv.h>

extern char **environ;

int main(int argc, char **argv) {
    say("argc %d\n", argc);
    for (int i = 1; i < argc; i++) say("argv[%d] \"%s\"\n", i, argv[i]);
    CHECK(argv[argc] == NULL);
    CHECK(environ == argv + argc + 1);

    char **end = environ;
    while (*end) end++;
    const ElfW(auxv_t) *vector = (const void *)(end + 1);
    int entries = 0;
    while (vector[entries].a_type != AT_NULL) entries++;
    CHECK(entries >= 15);
    for (int i = 0; i < entries; i++)
        for (int j = 0; j < i; j++) CHECK(vector[i].a_type != vector[j].a_type);

    CHECK(getauxval(AT_PAGESZ) == 4096);
    CHECK(getauxval(AT_CLKTCK) == 100);
    CHECK(getauxval(AT_PHENT) == sizeof(ElfW(Phdr)));
    CHECK(getauxval(AT_BASE) == 0);
    CHECK(getauxval(AT_FLAGS) == 0);
    CHECK(getauxval(AT_SECURE) == 0);
    CHECK(getauxval(AT_UID) == getuid() && getauxval(AT_EUID) == geteuid());
    CHECK(getauxval(AT_GID) == getgid() && getauxval(AT_EGID) == getegid());

    // The program headers are those of the running image: they say where they are themselves, or at least one
    // segment covers both them and the entry point's file.
    const ElfW(Phdr) *headers = (const void *)getauxval(AT_PHDR);
    bool has_load = false, entry_is_code = false;
    for (size_t i = 0; i < getauxval(AT_PHNUM); i++) {
        const ElfW(Phdr) *header = &headers[i];
        if (header->p_type != PT_LOAD) continue;
        has_load = true;
        uintptr_t entry = getauxval(AT_ENTRY);
        if ((header->p_flags & PF_X) && entry >= header->p_vaddr && entry < header->p_vaddr + header->p_memsz)
            entry_is_code = true;
    }
    CHECK(has_load && entry_is_code);

    const unsigned char *random = (const void *)getauxval(AT_RANDOM);
    int zeros = 0;
    for (int i = 0; i < 16; i++) zeros += random[i] == 0;
    CHECK(zeros < 8);

    const char *name = strrchr((const char *)getauxval(AT_EXECFN), '/');
    say("AT_EXECFN …/%s\n", name ? name + 1 : (const char *)getauxval(AT_EXECFN));
    const char *platform = (const char *)getauxval(AT_PLATFORM);
    CHECK(strcmp(platform, "x86_64") == 0 || strcmp(platform, "aarch64") == 0);

    // Strings lie above the pointers to them, and the stack pointer was aligned at entry.
    CHECK((char *)argv < argv[0] && (uintptr_t)(argv - 1) % 16 == 0);
    return 0;
}
