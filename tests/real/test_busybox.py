"""Debian's busybox-static: its shell and its applets do under minikern, byte for byte, what they do natively.

The arm64 build is compared with the native run of the x86-64 build, on the same files.
"""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support import ARCHES, PLAIN_ENV, Outcome, debian, guest, native

SCRIPTS = {
    "pipeline": "seq 1 200 | grep 7 | sort -rn | head -n 5 | tr '\\n' ' '; echo",
    "for": "for i in 1 2 3; do for j in a b; do echo $i$j; done; done",
    "while": "i=0; while [ $i -lt 50 ]; do i=$((i + 1)); [ $((i % 7)) = 0 ] && echo $i; done",
    "until, break, continue": (
        "i=9; until [ $i = 0 ]; do i=$((i-1)); [ $i = 5 ] && continue; [ $i = 2 ] && break; echo $i; done"
    ),
    "case": 'for w in apple fig 42 ""; do case $w in a*) echo A;; [0-9]*) echo N;; "") echo E;; *) echo -;; esac; done',
    "function": "f() { local x=$1; [ $x -le 1 ] && echo 1 || echo $((x * $(f $((x - 1))))); }; f 8",
    "here-document": "name=world; cat <<A; cat <<'B'; cat <<-C\nhello $name $((6 * 7))\nA\nhello $name\nB\n\tindented\nC",
    "command substitution": 'echo "[$(echo "($(echo inner | tr a-z A-Z))" | sed s/N/n/)] $(cat one.txt | wc -c)"',
    "background jobs": (
        "for i in 3 1 2; do (sleep 0.0$i; echo $i >job$i; exit $i) & eval p$i=$!; done\n"
        "wait $p1; echo $?; wait $p2; echo $?; wait $p3; echo $?; cat job1 job2 job3"
    ),
    "wait for all": "for i in 1 2 3 4 5; do (echo $i >j$i) & done; wait; cat j1 j2 j3 j4 j5",
    "signals": (
        "trap 'echo caught USR1' USR1; kill -USR1 $$; (kill -KILL $(exec sh -c 'echo $PPID')); echo $?\n"
        "sleep 9 & p=$!; (sleep 0.1; kill $p) & wait $p; echo $?; trap 'echo bye' EXIT"
    ),
    "subshell and exit": "(cd tree; pwd | sed 's/.*[/]//'; exit 3); echo $?; (exit 300); echo $?; ! true; echo $?",
    "redirections": "{ echo out; echo err >&2; } >o 2>e; cat e o; exec 5<one.txt; read -r l <&5; echo $l; echo x >>o; cat o",
    "find, sort, head": "find tree | sort | head -n 7; find tree -type f -size +1k | sort; find . -name '*.txt' -newer old | sort",
    "find, xargs": "find tree -type f -print0 | sort -z | xargs -0 -n 3 wc -c",
    "tar, gzip, gunzip": "tar cf - tree | gzip -9 | gunzip | tar tvf - | sort; tar cf - tree | gzip | tar xzf - -C out; find out | sort",
    "gzip": "head -c 1000000 big | tee part | gzip >part.gz; gunzip -c part.gz | cmp - part && echo same; gzip -c <one.txt | od -An -tx1 | tail -n 2",
    "bzip2": "bzip2 -c one.txt | bunzip2; head -c 300000 big | bzip2 -c | bunzip2 | md5sum",
    "md5sum": "md5sum big one.txt; sha256sum big; sha1sum <big; md5sum big >sums; md5sum -c sums",
    "sed": "sed -n '2,4p;$s/[0-9]/<&>/gp' numbers; seq 9 | sed 'N;N;s/\\n/+/g'; sed -e '/5/!d' -e 'y/5/V/' numbers | head -n 3",
    "awk": (
        'awk -F: \'{ n[$2] += $3; t += $3 } END { for (k in n) print k, n[k] | "sort"; close("sort"); '
        'printf "%d %.3f %s\\n", t, t / NR, toupper("x") substr("abcdef", 3, 2) }\' table; '
        "seq 5 | awk '{ s = s $0 } END { print length(s), s * 2 }'"
    ),
    "text tools": "cut -d: -f2 table | uniq -c; paste -d, table numbers | head -n 2; tac table; nl table; rev one.txt; fold -w 9 table",
    "diff, cmp": "diff table numbers | head -n 6; cmp one.txt table; echo $?; diff tree/a tree/a; echo $?",
    "od, hexdump": "head -c 64 big | od -c; head -c 40 big | hexdump -C; head -c 16 big | xxd",
    "files": (
        "cp -a tree copy; ln -s one.txt link; ln one.txt hard; readlink link; stat -c '%s %F %h %a' one.txt link tree\n"
        "mv copy moved; chmod 640 one.txt; ls -l one.txt | cut -c1-10; rm -r moved; ls; touch -d @86400 t; stat -c %Y t"
    ),
    "fifo": "mkfifo p; (seq 3 >p) & cat p; wait; rm p; test -p p; echo $?",
    "dd": "dd if=big of=part bs=1000 skip=3 count=2 2>/dev/null; md5sum <part; dd if=/dev/zero bs=1k count=5 2>/dev/null | wc -c",
    "expr, printf, test": "expr 6 '*' 7; expr length hello; printf '%05d %s %x\\n' 42 foo 255; test 3 -gt 2 -a -d tree; echo $?",
    "read": 'while IFS=: read -r a b c; do echo "$c $a"; done <table; echo \'a b  c\' | (read x y; echo "$x|$y")',
    "environment": "A=1 env | grep ^A=; export B=2; sh -c 'echo $B'; env -i C=3 env; unset B; echo ${B-unset} ${B:=now} $B",
    "who": "id; whoami; hostname | wc -l; uname -s; date -u -d @0; umask; nice; pwd | wc -l",
    "arithmetic": "echo $((2**10)) $((0x1f)) $((7/2)) $((-7%3)) $((1<<40)) $((5>3?1:0)); echo '2^100' | bc; dc -e '2 64 ^ p'",
    "large pipe": "head -c 3000000 big | cat | cat | tr a-z A-Z | md5sum; yes | head -n 100000 | wc -l",
    "many processes": "i=0; while [ $i -lt 60 ]; do /proc/self/exe true 2>/dev/null; i=$((i+1)); [ $(expr $i % 20) ] && true; done; echo $i",
    "timeout": "timeout 0.2 sleep 5; echo $?; timeout -s KILL 0.2 sleep 5; echo $?; timeout 5 true; echo $?",
    "not found": "nonesuch; echo $?; ./one.txt; echo $?; ./nonesuch; echo $?; sh -c 'exit 42'; echo $?",
    "times": "touch -d '2001-02-03 04:05:06' f; ls -l --full-time f | cut -d' ' -f6-7; date -u -d '2001-02-03 04:05' +%s",
}


@pytest.fixture(scope="module")
def applets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """For each architecture a directory that PATH can name, with a link for each applet."""
    folders = {}
    for arch in ARCHES:
        busybox = debian(arch, "bin/busybox")
        folders[arch] = folder = tmp_path_factory.mktemp(arch)
        for name in subprocess.run(
            [debian("x86_64", "bin/busybox"), "--list"], capture_output=True, text=True
        ).stdout.split():
            (folder / name).symlink_to(busybox)
    return folders


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory with files to work on; the guest's changes to it stay in its memory."""
    (tmp_path / "tree/a/deep").mkdir(parents=True)
    (tmp_path / "tree/b").mkdir()
    (tmp_path / "out").mkdir()
    for index, name in enumerate(("tree/a/one", "tree/a/deep/two", "tree/b/three", "tree/four", "tree/b/.five")):
        (tmp_path / name).write_bytes(b"%d\n" % index * 400 * index)
    (tmp_path / "tree/link").symlink_to("a/one")
    (tmp_path / "tree/four").chmod(0o751)
    (tmp_path / "old").write_bytes(b"")
    (tmp_path / "one.txt").write_text("the quick brown fox\n")
    (tmp_path / "numbers").write_text("".join(f"{n}\n" for n in range(1, 101)))
    (tmp_path / "table").write_text("ann:red:3\nbob:blue:5\ncyd:red:8\ndan:green:13\n")
    (tmp_path / "big").write_bytes(random.Random(1).randbytes(10 << 20))
    for path in (*tmp_path.rglob("*"), tmp_path):
        stamp = 1_000_000_000 if path.name != "old" else 900_000_000
        os.utime(path, (stamp, stamp), follow_symlinks=False)
    return tmp_path


@pytest.mark.parametrize("name", SCRIPTS)
def test_script(name: str, place: Path, applets: dict[str, Path]) -> None:
    script = f"cd {place} || exit 99\n{SCRIPTS[name]}"

    def run(how: Callable[..., Outcome], arch: str) -> Outcome:
        folder = applets[arch]
        outcome = how([folder / "sh", "-c", script], env={**PLAIN_ENV, "PATH": str(folder)}, stdin=b"from stdin\n")
        return replace(outcome, stderr=outcome.stderr.replace(bytes(folder), b""))

    # The guests first: their writes do not reach the host, those of the native run do.
    outcomes = {arch: run(guest, arch) for arch in ARCHES}
    expected = run(native, "x86_64")
    for arch, outcome in outcomes.items():
        assert outcome == expected, arch


def test_ls_of_the_root(place: Path) -> None:
    (place / "bin").mkdir()
    (place / "etc").mkdir()
    for name in ("passwd", "group"):
        (place / "etc" / name).write_bytes(Path("/etc", name).read_bytes())
    for arch in ARCHES:
        (place / f"bin/{arch}").symlink_to("busybox")  # the same listing, whichever is run
    outcomes = {}
    os.sync()  # some file systems count the blocks of a file only when they have been written
    for arch in ARCHES:
        (place / "bin/busybox").write_bytes(debian(arch, "bin/busybox").read_bytes())
        (place / "bin/busybox").chmod(0o755)
        for directory in (place / "bin", place / "etc", place):
            os.utime(directory, (10**9, 10**9))  # or a run that crosses a minute sees another time
        outcomes[arch] = guest(["/bin/busybox", "ls", "-la", "/"], root=str(place))
    expected = native([debian("x86_64", "bin/busybox"), "ls", "-la", f"{place}/"])
    for arch, outcome in outcomes.items():
        assert lines_of(outcome) == lines_of(expected), arch
        assert (outcome.status, outcome.stderr) == (expected.status, expected.stderr), arch


def lines_of(listing: Outcome) -> list[str]:
    """A listing without two lines: ``..``, which at the root is the directory itself, and the sum of blocks, which some
    file systems change while they write."""
    return [line for line in listing.stdout.decode().splitlines() if not line.endswith(" ..") and line[:6] != "total "]
