"""How capabilities follow the user ids, and what exec makes of credentials."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from minikern.fs.namespace import MountFlags
from minikern.kernel.cred import (
    CAP_FS_SET,
    CAP_FULL_SET,
    Cap,
    Cred,
    LsmUnsafe,
    SecureBits,
    bprm_creds_from_file,
    cap_emulate_setfsuid,
    cap_emulate_setxuid,
    cap_set,
)
from minikern.kernel.task import PF

USER = 1000


def user(uid: int = USER) -> Cred:
    return Cred(uid, uid, uid, uid, uid, uid, uid, uid, cap_permitted=0, cap_effective=0)


def task_of(cred: Cred, *, no_new_privs: bool = False) -> Any:
    tracer = SimpleNamespace(cred=user())
    return SimpleNamespace(cred=cred, no_new_privs=no_new_privs, flags=PF(0), parent=tracer)


def program(mode: int, uid: int = 0, gid: int = 0, nosuid: bool = False) -> Any:
    path = SimpleNamespace(mount=SimpleNamespace(flags=MountFlags.NOSUID if nosuid else MountFlags(0)))
    return SimpleNamespace(f_path=path, inode=SimpleNamespace(mode=0o100000 | mode, uid=uid, gid=gid))


def changed(old: Cred, **ids: int) -> Cred:
    new = old.copy()
    for name, value in ids.items():
        setattr(new, name, value)
    cap_emulate_setxuid(new, old)
    return new


def test_dropping_root_for_good_drops_every_capability() -> None:
    new = changed(Cred(cap_ambient=1), uid=USER, euid=USER, suid=USER)
    assert (new.cap_permitted, new.cap_effective, new.cap_ambient) == (0, 0, 0)


def test_a_saved_root_can_come_back() -> None:
    away = changed(Cred(), euid=USER)
    assert (away.cap_permitted, away.cap_effective) == (CAP_FULL_SET, 0)
    assert changed(away, euid=0).cap_effective == CAP_FULL_SET


def test_keep_caps_keeps_the_permitted_ones() -> None:
    new = changed(Cred(securebits=SecureBits.KEEP_CAPS), uid=USER, euid=USER, suid=USER)
    assert (new.cap_permitted, new.cap_effective) == (CAP_FULL_SET, 0)


def test_no_fixup_leaves_everything() -> None:
    new = changed(Cred(securebits=SecureBits.NO_SETUID_FIXUP), uid=USER, euid=USER, suid=USER)
    assert new.cap_effective == CAP_FULL_SET


def test_fsuid_takes_the_capabilities_for_files_along() -> None:
    root = Cred()
    away = root.copy()
    away.fsuid = USER
    cap_emulate_setfsuid(away, root)
    assert away.cap_effective == CAP_FULL_SET & ~CAP_FS_SET
    back = away.copy()
    back.fsuid = 0
    cap_emulate_setfsuid(back, away)
    assert back.cap_effective == CAP_FULL_SET


def test_an_ordinary_program_changes_nothing_for_a_user() -> None:
    creds = bprm_creds_from_file(task_of(user()), program(0o755), LsmUnsafe(0))
    assert (creds.cred.euid, creds.cred.cap_permitted, creds.secureexec) == (USER, 0, False)


def test_root_gets_its_capabilities_at_exec() -> None:
    weak = Cred(cap_permitted=0, cap_effective=0, cap_bset=cap_set(Cap.KILL))
    creds = bprm_creds_from_file(task_of(weak), program(0o755), LsmUnsafe(0))
    assert creds.cred.cap_effective == creds.cred.cap_permitted == cap_set(Cap.KILL)
    assert not creds.secureexec


def test_a_set_user_id_root_program_gives_root() -> None:
    creds = bprm_creds_from_file(task_of(user()), program(0o4755), LsmUnsafe(0))
    cred = creds.cred
    assert (cred.uid, cred.euid, cred.suid, cred.fsuid) == (USER, 0, 0, 0)
    assert cred.cap_effective == CAP_FULL_SET and creds.secureexec and creds.per_clear


def test_a_set_group_id_program_needs_group_execute() -> None:
    assert bprm_creds_from_file(task_of(user()), program(0o2755, gid=5), LsmUnsafe(0)).cred.egid == 5
    assert bprm_creds_from_file(task_of(user()), program(0o2745, gid=5), LsmUnsafe(0)).cred.egid == USER


@pytest.mark.parametrize("unsafe", [LsmUnsafe.SHARE, LsmUnsafe.PTRACE, LsmUnsafe.NO_NEW_PRIVS])
def test_unsafe_execs_gain_nothing(unsafe: LsmUnsafe) -> None:
    creds = bprm_creds_from_file(task_of(user()), program(0o4755), unsafe)
    assert (creds.cred.euid, creds.cred.cap_permitted) == (USER, 0)


def test_nosuid_mounts_and_no_new_privs_ignore_the_bits() -> None:
    nosuid = program(0o4755, nosuid=True)
    assert bprm_creds_from_file(task_of(user()), nosuid, LsmUnsafe(0)).cred.euid == USER
    careful = task_of(user(), no_new_privs=True)
    assert bprm_creds_from_file(careful, program(0o4755), LsmUnsafe.NO_NEW_PRIVS).cred.euid == USER


def test_ambient_capabilities_survive_an_ordinary_exec_only() -> None:
    kill = cap_set(Cap.KILL)
    cred = user()
    cred.cap_permitted = cred.cap_inheritable = cred.cap_ambient = kill
    after = bprm_creds_from_file(task_of(cred), program(0o755), LsmUnsafe(0)).cred
    assert (after.cap_permitted, after.cap_effective, after.cap_ambient) == (kill, kill, kill)
    set_id = bprm_creds_from_file(task_of(cred), program(0o4755, uid=5), LsmUnsafe(0)).cred
    assert (set_id.cap_permitted, set_id.cap_ambient) == (0, 0)
