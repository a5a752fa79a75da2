"""Real inits as process 1: what they reap, forward and pass on, and a busybox init that starts its service again."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import ARCHES, debian, guest

INITS = ("usr/bin/tini-static", "usr/bin/catatonit")


@pytest.fixture(params=ARCHES)
def arch(request: pytest.FixtureRequest) -> str:
    """Each architecture in turn."""
    name: str = request.param
    return name


@pytest.fixture
def root(arch: str, tmp_path: Path) -> Path:
    """A guest's / with the shell, its applets and both inits."""
    for name in ("bin", "dev", "etc", "proc", "tmp"):
        (tmp_path / name).mkdir()
    for path in ("bin/busybox", *INITS):
        target = tmp_path / "bin" / Path(path).name
        target.write_bytes(debian(arch, path).read_bytes())
        target.chmod(0o755)
    for name in "cat echo init kill ls mkfifo poweroff sh sleep true usleep wc".split():
        (tmp_path / "bin" / name).symlink_to("busybox")
    return tmp_path


def under(init: str, script: str, root: Path) -> tuple[int, list[str]]:
    """Run a script as the child of an init that is process 1: the exit status and what it printed."""
    command = [f"/bin/{Path(init).name}", "--", "/bin/sh", "-c", script]
    outcome = guest(command, root=str(root), pid1=True, env={"PATH": "/bin"})
    return outcome.status, outcome.stdout.decode().splitlines()


@pytest.mark.parametrize("init", INITS)
def test_orphans_are_reaped(init: str, root: Path) -> None:
    # Each daemon forks twice and says who its new parent is. When the fifo ends all have closed it; that they are
    # reaped shows in /proc, where a zombie would still have a directory.
    script = """
    mkfifo /tmp/f
    for i in 1 2 3 4 5; do
      ( ( while read -r k v; do [ "$k" = PPid: ] && p=$v; done </proc/self/status
          until [ "$(exec cat /tmp/parent.$i 2>/dev/null)" ]; do usleep 1000; done
          exec sh -c 'echo $PPID; echo $$ >>/tmp/pids' ) >/tmp/f & )
      echo gone >/tmp/parent.$i
    done &
    cat /tmp/f
    wait
    while read -r pid; do while [ -d /proc/$pid ]; do usleep 1000; done; done </tmp/pids
    wc -l </tmp/pids
    """
    assert under(init, script, root) == (0, ["1"] * 5 + ["5"])


@pytest.mark.parametrize("init", INITS)
@pytest.mark.parametrize("name", ["HUP", "TERM"])
def test_signals_are_forwarded(init: str, name: str, root: Path) -> None:
    script = f"trap 'echo {name}; exit 9' {name}; kill -{name} 1; while :; do usleep 1000; done"
    assert under(init, script, root) == (9, [name])


@pytest.mark.parametrize("init", INITS)
@pytest.mark.parametrize(("end", "status"), [("exit 0", 0), ("exit 42", 42), ("kill -KILL $$", 137)])
def test_exit_status_is_passed_on(init: str, end: str, status: int, root: Path) -> None:
    assert under(init, f"(exit 3) & {end}", root) == (status, [])


def test_busybox_init_respawns(root: Path) -> None:
    # The third start of the service ends the machine.
    (root / "etc/inittab").write_text(
        "::sysinit:/bin/sh -c 'echo sysinit $PPID'\n"
        "::wait:/bin/sh -c 'echo wait'\n"
        "::once:/bin/sh -c '(true &) ; exit 1'\n"
        "::respawn:/bin/sh /etc/service\n"
        "::shutdown:/bin/sh -c 'echo shutdown'\n"
    )
    (root / "etc/service").write_text(
        'echo x >>/tmp/starts; echo "start $(wc -l </tmp/starts)"\n'
        "[ $(wc -l </tmp/starts) = 3 ] && { poweroff; while :; do sleep 1; done; }\nexit 1\n"
    )
    outcome = guest(["/bin/init"], root=str(root), pid1=True, env={"PATH": "/bin"})
    lines = [
        line
        for line in outcome.stdout.decode().splitlines()
        if (line and " " not in line) or line[:5] in ("start", "sysin")
    ]
    assert lines == ["sysinit 1", "wait", "start 1", "start 2", "start 3", "shutdown"]
    assert outcome.status == 0
