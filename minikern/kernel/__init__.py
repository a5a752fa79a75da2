"""The core of the kernel: tasks, signals, scheduling, time. Named after ``kernel/`` in Linux."""
