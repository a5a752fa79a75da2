"""A place in the tree: which mount, and which name in it.

Mirrors ``include/linux/path.h`` and ``fs/d_path.c``. Paths are not counted: what keeps a mount busy is looked for when
somebody asks (`namespace.umount`), what keeps an inode alive are the files open on it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from minikern.fs.dcache import Dentry
    from minikern.fs.namespace import Mount


class Path(NamedTuple):
    """A mount and a dentry of its file system (``struct path``)."""

    mount: Mount
    dentry: Dentry


def prepend_path(path: Path, root: Path) -> tuple[bytes, bool]:
    """The name of ``path`` as seen from ``root``, and whether it is below that root. Source: ``fs/d_path.c:prepend_path``."""
    mount, dentry = path.mount, path.dentry
    names: list[bytes] = []
    reachable = True
    while not (dentry is root.dentry and mount is root.mount):
        if dentry is mount.root:
            if mount.parent is None:
                reachable = False
                break
            dentry = mount.mountpoint
            mount = mount.parent
            continue
        if dentry.is_root():
            reachable = False
            break
        names.append(dentry.name)
        dentry = dentry.parent
    return b"/" + b"/".join(reversed(names)), reachable


def d_path(path: Path, root: Path) -> bytes:
    """The name of ``path`` as seen from ``root``; a name that is gone says so. Source: ``fs/d_path.c:d_path``."""
    name, _ = prepend_path(path, root)
    dentry = path.dentry
    if not dentry.hashed and not dentry.is_root():
        name += b" (deleted)"
    return name
