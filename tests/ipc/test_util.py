"""Keys, ids and permissions of System V objects."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from minikern.ipc.util import IpcFlag, IpcIds, IpcPerm, Want, ipcperms
from minikern.kernel.cred import Cred
from minikern.kernel.errno import Errno, KernelError
from minikern.kernel.task import PF


@dataclass(eq=False)
class Thing:
    perm: IpcPerm


def task_of(uid: int = 1000, gid: int = 1000, groups: tuple[int, ...] = ()) -> Any:
    cred = Cred(uid, gid, uid, gid, uid, gid, uid, gid, groups, cap_permitted=0, cap_effective=0)
    return SimpleNamespace(cred=cred, flags=PF(0))


def fits(thing: Thing) -> None:
    pass


def get(ids: IpcIds[Thing], key: int, flags: int, task: Any = None) -> int:
    task = task or task_of()
    return ids.get(task, key, flags, partial(Thing, IpcPerm.new(task, key, flags & 0o777)), fits)


def errno_of(call: Any, *args: Any) -> int:
    with pytest.raises(KernelError) as failure:
        call(*args)
    return failure.value.errno


def test_keys() -> None:
    ids: IpcIds[Thing] = IpcIds(8)
    assert errno_of(get, ids, 5, 0o600) == Errno.ENOENT
    first = get(ids, 5, IpcFlag.CREAT | 0o600)
    assert get(ids, 5, 0o600) == first
    assert errno_of(get, ids, 5, IpcFlag.CREAT | IpcFlag.EXCL | 0o600) == Errno.EEXIST
    assert get(ids, 0, 0o600) != get(ids, 0, 0o600), "IPC_PRIVATE is always new"
    assert errno_of(get, ids, 5, 0o600, task_of(uid=7, gid=7)) == Errno.EACCES


def test_an_old_id_never_means_a_new_object() -> None:
    ids: IpcIds[Thing] = IpcIds(8)
    old = get(ids, 0, 0o600)
    ids.remove(ids.obtain(old))
    assert errno_of(ids.obtain, old) == Errno.EINVAL
    new = get(ids, 0, 0o600)
    assert new != old and errno_of(ids.obtain, old) == Errno.EIDRM
    assert ids.obtain(new).perm.id == new and ids.max_index == 0


def test_the_limit() -> None:
    ids: IpcIds[Thing] = IpcIds(2)
    get(ids, 0, 0o600), get(ids, 0, 0o600)
    assert errno_of(get, ids, 0, 0o600) == Errno.ENOSPC


@pytest.mark.parametrize(
    ("uid", "gid", "groups", "wanted", "allowed"),
    [
        (1000, 1, (), Want.WRITE, True),
        (1001, 1000, (), Want.WRITE, False),
        (1001, 1000, (), Want.READ, True),
        (1001, 1, (1000,), Want.READ, True),
        (1001, 1, (), Want.READ, False),
    ],
)
def test_permissions(uid: int, gid: int, groups: tuple[int, ...], wanted: Want, allowed: bool) -> None:
    perm = IpcPerm.new(task_of(), 0, 0o640)
    task = task_of(uid, gid, groups)
    if allowed:
        ipcperms(task, perm, wanted)
    else:
        assert errno_of(ipcperms, task, perm, wanted) == Errno.EACCES


def test_only_owner_and_creator_may_change() -> None:
    ids: IpcIds[Thing] = IpcIds(2)
    number = get(ids, 0, 0o666)
    assert ids.obtain_owned(task_of(), number).perm.id == number
    assert errno_of(ids.obtain_owned, task_of(uid=7), number) == Errno.EPERM
    ids.obtain(number).perm.update(IpcPerm(0, 0o1640, 7, 8, 9, 10).pack())
    perm = ids.obtain(number).perm
    assert (perm.uid, perm.gid, perm.cuid, perm.mode) == (7, 8, 1000, 0o640)
