"""The way into the kernel and out of it: system calls, faults, exceptions, and the work before user mode.

Mirrors ``kernel/entry/common.c`` and the fault entry of ``arch/*/mm/fault.c``. `run_task` is the plain loop that all
running happens in: user code runs until it traps, the trap is served, and so on until the task sleeps, dies or has
to give the processor up.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from minikern.engine.cpu import Trap
from minikern.kernel.errno import Errno, KernelBug, KernelError
from minikern.kernel.ptrace import EventMessage, ptrace_report_syscall, syscall_exit_work
from minikern.kernel.rseq import rseq_handle_notify_resume
from minikern.kernel.signal import fatal_signal_pending, force_sig_info, signal_pending_state
from minikern.kernel.signal_delivery import do_signal, restore_saved_sigmask
from minikern.kernel.task import Task
from minikern.kernel.waitqueue import Exited, Result, Wait
from minikern.mm.memory import fault_siginfo

if TYPE_CHECKING:
    from minikern.kernel.kernel import Kernel


def run_task(kernel: Kernel, task: Task) -> None:
    """Give the processor to ``task`` until it sleeps, dies, or others have to run."""
    if task.wait is not None and not _continue_sleep(task):
        return
    arch = task.arch
    cpu = arch.cpu
    clock = kernel.sources.monotonic_ns
    usage = task.usage
    call = task.syscall
    while True:
        if task.sigpending or task.in_get_signal:
            if not _exit_to_user_work(task):
                return
        elif task.saved_sigmask is not None:
            restore_saved_sigmask(task)
        if kernel.need_resched:
            if task.rseq:
                rseq_handle_notify_resume(task)
            kernel.sched.enqueue(task)
            usage.nivcsw += 1
            return
        if task.mm is None:
            raise KernelBug(f"{task!r} goes to user mode without an address space")
        cpu.set_space(task.mm)
        entered_ns = clock()
        if entered_ns >= kernel.vdso.due_ns:
            kernel.vdso.update_vsyscall()
        usage.stime_ns += entered_ns - kernel.clock_ns
        trap = cpu.run(arch.instruction_pointer(task))
        kernel.clock_ns = left_ns = clock()
        usage.utime_ns += left_ns - entered_ns
        if trap is Trap.SYSCALL:
            call.nr, call.args = arch.syscall_enter(task)
            if not do_syscall(task):
                return
        else:
            call.nr = -1
            if trap is Trap.PREEMPT:
                kernel.tick()
            elif trap is Trap.FAULT:
                do_page_fault(task, cpu.fault_address, cpu.fault_access)
            else:
                force_sig_info(arch.exception_info(task), task)


def do_syscall(task: Task) -> bool:
    """Serve the call that the task has entered; False when it cannot go on now. Source: ``do_syscall_64``."""
    call = task.syscall
    if call.nr < 0:  # no number at all, and the mark for not being in a call
        task.arch.syscall_set_return(task, -Errno.ENOSYS)
        return True
    if (hook := task.kernel.events.syscall_enter) is not None:
        hook(task, call.nr, call.args)
    ptrace = task.ptrace
    if ptrace is not None and (ptrace.trace_syscalls or ptrace.emulate_syscalls):
        then = partial(_syscall_traced, task, ptrace.emulate_syscalls)
        return _settle(task, ptrace_report_syscall(task, EventMessage.SYSCALL_ENTRY, then))
    return _settle(task, _filter_and_invoke(task))


def _syscall_traced(task: Task, emulated: bool) -> Result:
    """The tracer has seen the call, and may have changed it. Source: ``kernel/entry/common.c:syscall_trace_enter``."""
    call = task.syscall
    call.nr, call.args = task.arch.syscall_get_args(task)
    if emulated or call.nr < 0 or fatal_signal_pending(task):
        return task.arch.syscall_get_return(task)  # the call is not made: the tracer says what it returns
    return _filter_and_invoke(task)


def _filter_and_invoke(task: Task) -> Result:
    if task.seccomp is not None:
        from minikern.kernel.seccomp import secure_computing  # 3 ms of a start, and few programs have filters

        if (verdict := secure_computing(task, partial(invoke, task))) is not None:
            return verdict
    return invoke(task)


def invoke(task: Task) -> Result:
    """Call the handler; the one place where an error becomes a negative number."""
    call = task.syscall
    try:
        handler = task.kernel.handlers[task.arch.name][call.nr]
        result: Result = handler(task, call.args)
        return result
    except KernelError as error:
        return -error.errno


def _continue_sleep(task: Task) -> bool:
    """The task was woken inside a system call: look again at what it waits for. False: it sleeps on, or is dead."""
    wait, task.wait = task.wait, None
    assert wait is not None
    if wait.resume is None:
        return _settle(task, invoke(task))
    try:
        result = wait.resume()
    except KernelError as error:
        result = -error.errno
    return _settle(task, result)


def _settle(task: Task, result: Result) -> bool:
    """A call has returned ``result``: finish it, or put the task to sleep. False: the task cannot go on now."""
    while result.__class__ is Wait:
        assert isinstance(result, Wait)
        ending = None
        if signal_pending_state(result.state, task):
            ending = result.interrupted
        elif result.deadline_ns is not None and task.kernel.sources.monotonic_ns() >= result.deadline_ns:
            ending = result.timed_out
        if ending is None:
            task.kernel.sched.sleep(task, result)
            return False
        try:
            result = ending if isinstance(ending, int) else ending()
        except KernelError as error:
            result = -error.errno
    if isinstance(result, Exited):
        return False
    if task.in_get_signal:
        return True  # what has ended is a stop on the way to user mode, not a call
    assert isinstance(result, int)
    call = task.syscall
    if call.nr >= 0:
        task.arch.syscall_set_return(task, result)
        call.result = result
        if (hook := task.kernel.events.syscall_exit) is not None:
            hook(task, call.nr, result)
    if task.ptrace is not None and (stop := syscall_exit_work(task)) is not None:
        task.in_get_signal = True
        task.kernel.sched.sleep(task, stop)
        return False
    return True


def _exit_to_user_work(task: Task) -> bool:
    """Signals and stops before user mode; False when the task does not get there now.

    Source: ``kernel/entry/common.c:exit_to_user_mode_loop``.
    """
    while task.sigpending or task.in_get_signal:
        task.in_get_signal = False
        outcome = do_signal(task)
        if outcome is None:
            continue
        task.in_get_signal = True
        if isinstance(outcome, Wait):
            task.kernel.sched.sleep(task, outcome)
        return False
    return True


def do_page_fault(task: Task, address: int, access: int) -> None:
    """An access that the page tables do not allow. Source: ``arch/x86/mm/fault.c:do_user_addr_fault``."""
    assert task.mm is not None
    info = fault_siginfo(task, address, access)
    if info is None:
        return  # memory was found meanwhile: run the instruction again
    if (hook := task.kernel.events.fault) is not None:
        hook(task, address, access, info)
    other = task.arch.fault_context(task, address, access)
    force_sig_info(other or info, task)


def no_such_call(task: Task, args: tuple[int, ...]) -> Result:
    """A number without a handler. Source: ``kernel/sys_ni.c:sys_ni_syscall``."""
    kernel = task.kernel
    nr = task.syscall.nr
    name = task.arch.syscalls.get(nr, f"#{nr}")
    kernel.unimplemented[task.arch.name, name] = kernel.unimplemented.get((task.arch.name, name), 0) + 1
    if (hook := kernel.events.unimplemented) is not None:
        hook(task, nr, name)
    return -Errno.ENOSYS
