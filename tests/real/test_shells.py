"""Other static programs of Debian: bash, zsh, sash, and two inits as process 1."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import ARCHES, PLAIN_ENV, debian, guest, native

SCRIPTS = Path(__file__).with_name("scripts")

ZSH = r"""
typeset -A h=(one 1 two 2); for k in ${(ok)h}; do print $k $h[$k]; done
a=(c b a); print ${(o)a} ${#a} $a[2,-1]; print -l ${(s.:.)${:-x:y:z}}
f() { local x=$1; (( x > 1 )) && print $(( x * $(f $((x - 1))) )) || print 1 }; f 6
print ${(U)${:-shout}} ${${:-/a/b/c.txt}:t:r}; print -r -- $(<=(print 1)) $(<<(print 2)); false; print $?
(exit 5) & wait $!; print $?; TRAPUSR1() { print caught }; kill -USR1 $$; { exit 7 } always { print always }
"""
# sash forks for a command that it does not know, with what it has printed so far still in the child's buffer as well.
SASH = "-pwd\n-echo hello\n-mkdir d\n-ls d\nnonesuch\nexit\n"


@pytest.fixture(params=ARCHES)
def arch(request: pytest.FixtureRequest) -> str:
    """Each architecture in turn."""
    name: str = request.param
    return name


@pytest.fixture
def applets(tmp_path: Path, arch: str) -> str:
    """A directory for PATH with the commands that the scripts call."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in "cat chmod cut diff ls mkdir paste seq sleep sort tee touch tr wc".split():
        (folder / name).symlink_to(debian(arch, "bin/busybox"))
    return str(folder)


def test_bash_script_of_a_hundred_lines(arch: str, applets: str, tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    script = SCRIPTS / "hundred.bash"
    environment = {**PLAIN_ENV, "PATH": applets}
    outcome = guest([debian(arch, "bin/bash-static"), script], cwd=place, env=environment)

    for link in Path(applets).iterdir():  # the witness is the host's own architecture
        link.unlink()
        link.symlink_to(debian("x86_64", "bin/busybox"))
    assert outcome == native([debian("x86_64", "bin/bash-static"), script], cwd=place, env=environment)
    assert outcome.status == 42


def test_zsh(arch: str, tmp_path: Path) -> None:
    outcome = guest([debian(arch, "bin/zsh-static"), "-f", "-c", ZSH], cwd=tmp_path)
    assert outcome == native([debian("x86_64", "bin/zsh-static"), "-f", "-c", ZSH], cwd=tmp_path)


def test_sash(arch: str, tmp_path: Path) -> None:
    outcome = guest([debian(arch, "bin/sash")], cwd=tmp_path, stdin=SASH.encode())
    expected = native([debian("x86_64", "bin/sash")], cwd=tmp_path, stdin=SASH.encode())
    assert outcome == expected


@pytest.mark.parametrize("init", ["usr/bin/tini-static", "usr/bin/catatonit"])
def test_init_as_process_1(init: str, arch: str) -> None:
    script = "echo $PPID; (sleep 0.1 & exec true); (sleep 0.05; exit 3) & wait $!; echo $?; exit 42"
    outcome = guest([debian(arch, init), "--", debian(arch, "bin/busybox"), "sh", "-c", script], pid1=True)
    assert (outcome.status, outcome.stdout) == (42, b"1\n3\n")
