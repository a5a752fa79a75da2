"""Programs that start, find and end others: busybox's, and from Debian's coreutils and psmisc dynamic ones."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.support import ARCHES, debian, guest

PROGRAMS = ("bin/busybox", "bin/fuser", "usr/bin/killall", "usr/bin/nohup", "usr/bin/pstree", "usr/bin/timeout")
SLEEPER = "sleep 1000 & s=$!; until grep -q '^sleep' /proc/$s/comm; do usleep 1000; done\n"
TRAPPER = 'trap "echo got $0; exit 5" TERM; echo ready >/tmp/ready; while :; do usleep 1000; done'  # run by `sh -c`

SCRIPTS = {
    "timeout": (
        "t=/bin/timeout; $t 5 true; echo $?; $t 5 sh -c 'exit 3'; echo $?; $t 0.05 sleep 99; echo $?\n"
        "$t -s KILL 0.05 sleep 99; echo $?; $t -k 0.05 0.05 sh -c 'trap : TERM; while :; do usleep 1000; done'; echo $?\n"
        "$t 1 /nonesuch 2>/dev/null; echo $?",
        "0\n3\n124\n137\n137\n127\n",
    ),
    "setsid": (
        "setsid sh -c 'read -r p c s pp pg sid rest </proc/self/stat; [ $$ = $sid ] && [ $$ = $pg ] && echo leader' | cat\n"
        "setsid sh -c '(: </dev/tty) 2>/dev/null || echo no tty' | cat",
        "leader\nno tty\n",
    ),
    "nohup": (
        "nohup sh -c 'kill -HUP $$; echo survived' 2>/dev/null; sh -c 'kill -HUP $$'; echo $?; nohup /nonesuch 2>/dev/null; echo $?",
        "survived\n129\n127\n",
    ),
    "start-stop-daemon": (
        f"d='start-stop-daemon -q -p /tmp/pid -x /bin/busybox'; echo '{TRAPPER}' >/tmp/run; mkfifo /tmp/ready\n"
        "$d -S -b -m -- sh /tmp/run >/dev/null; read -r word </tmp/ready; echo $word; p=$(cat /tmp/pid)\n"
        "$d -S -b -m -- sh /tmp/run; echo $?; $d -K; echo $?; while [ -d /proc/$p ]; do usleep 1000; done\n"
        "$d -K; echo $?",
        "ready\n1\n0\n1\n",
    ),
    "ps": (
        f"{SLEEPER}ps -o ppid,stat,comm,args | grep '[s]leep 1000' | tr -s ' '; ps | grep -c '[s]leep 1000'; kill $s; wait $s; echo $?",
        " 2 S sleep sleep 1000\n1\n143\n",
    ),
    "top": (
        f"{SLEEPER}top -bn1 >/tmp/top; grep -c '^Mem:.*used' /tmp/top; grep -c '[s]leep 1000' /tmp/top; kill $s",
        "1\n1\n",
    ),
    "pstree": (
        f"{SLEEPER}pstree -A; pstree -Aa $$; kill $s",
        "init---sh-+-pstree\n          `-sleep\nsh /script\n  |-pstree -Aa 2\n  `-sleep 1000\n",
    ),
    "fuser": (
        "sleep 1000 9>/tmp/f & s=$!; until [ -e /tmp/f ]; do usleep 1000; done; [ $(fuser /tmp/f 2>/dev/null) = $s ] && echo found\n"
        "fuser -k /tmp/f >/dev/null 2>&1; wait $s; echo $?; fuser /tmp/f 2>/dev/null; echo $?",
        "found\n137\n1\n",
    ),
    "killall": (
        f"{SLEEPER}killall -TERM sleep; wait $s; echo $?; killall -q sleep; echo $?; killall -l | grep -c USR1",
        "143\n1\n1\n",
    ),
}


@pytest.fixture(scope="module", params=ARCHES)
def root(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A guest's / with the programs and the C library that some of them want."""
    arch: str = request.param
    folder = tmp_path_factory.mktemp(arch)
    for name in ("bin", "dev", "proc", "tmp"):
        (folder / name).mkdir()
    for name in "cat echo grep kill mkfifo ps setsid sh sleep start-stop-daemon top tr true usleep".split():
        (folder / "bin" / name).symlink_to("busybox")
    for path in PROGRAMS:
        shutil.copy(debian(arch, path), folder / "bin")
    for path in ("lib", "lib64") if arch == "x86_64" else ("lib",):
        shutil.copytree(debian(arch, path), folder / path, symlinks=True)
    return folder


@pytest.mark.parametrize("name", SCRIPTS)
def test_tool(name: str, root: Path) -> None:
    script, expected = SCRIPTS[name]
    (root / "script").write_text(script)
    outcome = guest(["/bin/sh", "/script"], root=str(root), env={"PATH": "/bin", "TERM": "dumb"})
    assert outcome.stdout.decode() == expected, outcome.stderr.decode()
