"""The tree of names.

Mirrors ``fs/dcache.c``. A `Dentry` is one name in one directory. The directory's inode is asked at every step what the
name means now, because the tree of the host below may change at any time; the dentry stays the same as long as the
answer does. So there are no negative dentries: in memory a miss is one look into a dict, on the host one lstat.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from minikern.fs.inode import Inode
    from minikern.fs.super import SuperBlock
    from minikern.kernel.task import Task


class Dentry:
    """A name and the inode that it stands for (``struct dentry``)."""

    __slots__ = ("children", "hashed", "inode", "mounted", "name", "parent", "sb")

    def __init__(self, sb: SuperBlock, parent: Dentry | None, name: bytes, inode: Inode) -> None:
        self.sb = sb
        self.parent = parent if parent is not None else self  # the root is its own parent
        self.name = name
        self.inode = inode
        self.children: dict[bytes, Dentry] = {}  # names looked up so far
        self.hashed = True  # False: the name is gone (``d_unhashed``)
        self.mounted = 0  # mounts on top of it

    def __repr__(self) -> str:
        return f"<Dentry {self.name!r} {self.inode!r}>"

    def lookup(self, task: Task, name: bytes) -> Dentry | None:
        """What ``name`` is in this directory now. Source: ``fs/namei.c:__lookup_hash``."""
        child = self.children.get(name)
        inode = self.inode.lookup(task, name)
        if child is not None:
            if child.inode is inode or child.mounted:
                return child
            child.drop()
        if inode is None:
            return None
        return self.add(name, inode)

    def add(self, name: bytes, inode: Inode) -> Dentry:
        """Note that ``name`` stands for ``inode`` (``d_add``)."""
        child = Dentry(self.sb, self, name, inode)
        self.children[name] = child
        return child

    def drop(self) -> None:
        """The name no longer stands for this. Source: ``fs/dcache.c:d_drop``."""
        self.hashed = False
        if self.parent.children.get(self.name) is self:
            del self.parent.children[self.name]

    def move(self, new_parent: Dentry, new_name: bytes) -> None:
        """The file has another name now. Source: ``fs/dcache.c:d_move``."""
        if self.parent.children.get(self.name) is self:
            del self.parent.children[self.name]
        target = new_parent.children.get(new_name)
        if target is not None and target is not self:
            target.drop()
        self.parent = new_parent
        self.name = new_name
        new_parent.children[new_name] = self

    def exchange(self, other: Dentry) -> None:
        """Two files swap their names. Source: ``fs/dcache.c:d_exchange``."""
        self.parent, other.parent = other.parent, self.parent
        self.name, other.name = other.name, self.name
        self.parent.children[self.name] = self
        other.parent.children[other.name] = other

    def is_root(self) -> bool:
        """Whether it is the root of its file system (``IS_ROOT``)."""
        return self.parent is self

    def is_below(self, ancestor: Dentry) -> bool:
        """Whether ``ancestor`` is above it, or is it. Source: ``fs/dcache.c:is_subdir``."""
        dentry = self
        while dentry is not ancestor:
            if dentry.parent is dentry:
                return False
            dentry = dentry.parent
        return True
