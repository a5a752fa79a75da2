"""The one gate through which observers learn what the kernel does.

Instruments subscribe to hooks by name. A hook that nobody listens to is ``None``, so an event that is not
wanted costs one attribute load and one test::

    if (hook := kernel.events.fork) is not None:
        hook(parent, child)

Observers must not change kernel state from a hook.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Hook = Callable[..., None]

HOOKS = (
    "syscall_enter",  # (task, nr, args: tuple of six raw registers)
    "syscall_exit",  # (task, nr, result: int)
    "syscall_block",  # (task, wait)
    "fork",  # (parent, child)
    "exec",  # (task, old_tid)
    "exit",  # (task, code): do_exit begins
    "group_exit",  # (task, code): the process is to end, with this status; once for each
    "zap",  # (task, victim)
    "zombie",  # (task)
    "reparent",  # (child, old_parent, new_parent)
    "notify",  # (task, parent, sig): the parent is told, sig 0: not
    "reap",  # (task, reaper or None)
    "release",  # (task): release_task begins, the pid is about to be free
    "signal_generate",  # (task, sig, info, group: bool, result: str)
    "signal_deliver",  # (task, sig, info, action)
    "stop",  # (task, sig)
    "cont",  # (task)
    "core",  # (task, sig, path or None)
    "sched_switch",  # (previous or None, next or None)
    "fault",  # (task, address, access, resolution)
    "mmap",  # (task, start, end, prot, flags, file or None)
    "munmap",  # (task, start, end)
    "oom_kill",  # (victim, rss: in pages)
    "unimplemented",  # (task, nr, name)
)


class Events:
    """The hooks of one kernel; each is ``None`` or a function that calls every subscriber in turn."""

    __slots__ = (*HOOKS, "_subscribers")

    def __init__(self) -> None:
        self._subscribers: dict[str, tuple[Hook, ...]] = {}
        for name in HOOKS:
            setattr(self, name, None)

    def __getattr__(self, name: str) -> Any:  # for type checkers: the slots are always filled
        raise AttributeError(name)

    def attach(self, instrument: object) -> None:
        """Subscribe every method of ``instrument`` that is called ``on_HOOK``.

        Raises AttributeError when a method is named after a hook that does not exist.
        """
        for attribute in dir(instrument):
            if attribute.startswith("on_"):
                self.subscribe(attribute[3:], getattr(instrument, attribute))

    def subscribe(self, name: str, function: Hook) -> None:
        """Call ``function`` at every event ``name``."""
        if name not in HOOKS:
            raise AttributeError(f"there is no event {name!r}")
        self._set(name, (*self._subscribers.get(name, ()), function))

    def unsubscribe(self, name: str, function: Hook) -> None:
        """Undo `subscribe`."""
        self._set(name, tuple(each for each in self._subscribers.get(name, ()) if each != function))

    def _set(self, name: str, functions: tuple[Hook, ...]) -> None:
        self._subscribers[name] = functions
        if not functions:
            setattr(self, name, None)
        elif len(functions) == 1:
            setattr(self, name, functions[0])
        else:
            setattr(self, name, _Fan(functions))


class _Fan:
    """Calls several subscribers in the order in which they came."""

    __slots__ = ("functions",)

    def __init__(self, functions: tuple[Hook, ...]) -> None:
        self.functions = functions

    def __call__(self, *args: Any) -> None:
        for function in self.functions:
            function(*args)
