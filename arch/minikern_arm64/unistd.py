"""System call numbers of arm64: the generic ones (``arch/arm64/kernel/Makefile.syscalls``)."""

from minikern.kernel.unistd import GENERIC_TABLE, parse_table

SYSCALLS = parse_table(GENERIC_TABLE)
