"""System V and POSIX interprocess communication. Named after ``ipc/`` in Linux."""
