"""Host signals for a machine that runs as a command: the program inside gets what was sent to the command.

What is typed at a terminal does not come this way: the guest has the terminal in raw mode, and its own line
discipline makes a signal of Ctrl-C.
"""

from __future__ import annotations

import signal
import time
from collections import deque
from collections.abc import Callable
from functools import partial

from minikern.kernel.siginfo import SiCode, SigInfo
from minikern.kernel.signal import do_send_sig_info
from minikern.kernel.task import PidType
from minikern.machine import Machine

_TO_THE_GROUP = (signal.SIGINT, signal.SIGQUIT)  # what a terminal would send to the foreground group
_TO_THE_PROGRAM = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
_INSISTENCE = 3  # so many signals of one kind …
_INSISTENCE_S = 1.0  # … within this time stop the machine, whatever the guest makes of them


def forwarders(machine: Machine) -> dict[int, Callable[[], None]]:
    """For `Machine.run`: what to do about each signal. What whoever started us had ignored stays ignored (nohup)."""
    return {
        signum: partial(_forward, machine, signum, deque(maxlen=_INSISTENCE))
        for signum in _TO_THE_GROUP + _TO_THE_PROGRAM
        if signal.getsignal(signum) is not signal.SIG_IGN
    }


def _forward(machine: Machine, signum: int, times: deque[float]) -> None:
    times.append(time.monotonic())
    if len(times) == _INSISTENCE and times[-1] - times[0] < _INSISTENCE_S:
        machine.stop(SystemExit(128 + signum))
        return
    pid = machine.kernel.pids.find(machine.programs[0].pid)
    if pid is None:
        return
    for leader in tuple(pid.tasks[PidType.PGID if signum in _TO_THE_GROUP else PidType.TGID]):
        if leader.sighand is not None:
            do_send_sig_info(signum, SigInfo(signum, SiCode.SI_USER), leader, PidType.TGID)
