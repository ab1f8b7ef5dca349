"""The owner of a store, and dropping root to that user. Standard library only; nothing is read or printed here.

Root walks to a store's folder only through folders that no other user can change: the first folder of another
user ends the walk, and root switches to that user.
"""

import os
import pwd
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from f2b_digest.errors import ConfigurationError, StoreError

MOST_LINKS = 40
"""Symlinks followed, as in the kernel."""
MOST_FILES = 10_000
"""Maximum number of files checked in a folder; no template folder has as many."""
UMASK = 0o027


class Owner(NamedTuple):
    """The user a store belongs to."""

    uid: int
    gid: int
    name: str
    """The user id, if the user has no name."""
    home: str
    groups: tuple[int, ...]


class _Step(NamedTuple):
    """A link, folder or file on the way to a path, itself not followed."""

    path: Path
    status: os.stat_result


def owner_of(store: Path, *, links: int = 0) -> Owner | None:
    """Return the user that root must switch to for a store; None if it stays root, or the folder does not exist.

    Raises StoreError if another user could change the path to a store of root's.
    """
    folder, last = store.absolute().parent, None
    for last in _steps(folder):
        if last.status.st_uid:
            return _user(last.status)
        reason = "" if stat.S_ISLNK(last.status.st_mode) else _open_to_others(last, sticky=True)
        if reason:
            raise StoreError(f"{store}: {reason}")
    if last is None or str(last.path) != os.path.realpath(folder):
        return None
    reason = _open_to_others(last, sticky=False)
    if reason:
        raise StoreError(f"{store}: {reason}, or choose a folder that only one user may write to")
    return _owner_behind_link(store, links)


def _owner_behind_link(store: Path, links: int) -> Owner | None:
    """Return the owner of the folder that root's symlink to a store leads to."""
    try:
        target, maker = store.readlink(), store.lstat().st_uid
    except OSError:
        return None
    if maker or links > MOST_LINKS:
        raise StoreError(f"{store}: is a symlink of user {maker}, or a loop: root does not follow it")
    return owner_of(store.absolute().parent / target, links=links + 1)


def become_owner(store: Path) -> Owner | None:
    """When root, switch to the store's owner; see `become`.

    Raises StoreError.
    """
    owner = owner_of(store) if os.geteuid() == 0 else None
    if owner:
        become(owner)
        _refuse_folder_of_another(store, owner)
    return owner


def as_owner(store: Path, question: Callable[[], int]) -> int:
    """Call a function (returning 0 to 99) as a store's owner, in a child process if that is not this user.

    For callers that must stay root until the result is known. 100: the child could not switch users, or failed.
    """
    if os.geteuid() or owner_of(store) is None:
        return question()
    child = os.fork()
    if not child:
        answer = 100
        try:
            become_owner(store)
            answer = question()
        finally:
            os._exit(answer)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _refuse_folder_of_another(store: Path, owner: Owner) -> None:
    """Raise StoreError if a store's folder belongs to another user than the folder above it."""
    try:
        found = store.parent.stat().st_uid
    except OSError:  # reported when the store is opened
        return
    if found != owner.uid:
        raise StoreError(
            f"{store}: its folder belongs to {user(found)}, inside a folder of {owner.name}, who could replace "
            f"it: chown {owner.name} {store.parent}, or choose another folder"
        )


def changeable(path: Path) -> str:
    """Return which other user could change a file or folder, and what to do; "" if none, or if it does not exist.

    A folder includes its content.
    """
    last: _Step | None = None
    for step in _steps(path.absolute()):
        last = step
        if reason := _foreign(step):
            return reason
    if last is None or not stat.S_ISDIR(last.status.st_mode) or str(last.path) != os.path.realpath(path):
        return ""  # of a path that does not exist, the folder above is not what root uses
    return _open_to_others(last, sticky=False) or next(filter(None, map(_foreign, _below(last.path))), "")


def refuse_changeable(*paths: Path | None) -> None:
    """Raise ConfigurationError, with a line each, for files and folders used by root that other users can write to.

    Does nothing for other users than root.
    """
    if os.geteuid() == 0:
        used = [path for path in paths if path and str(path) != os.devnull]  # always empty
        reasons = {reason: None for path in used for reason in [changeable(path)] if reason}
        if reasons:
            raise ConfigurationError(
                [f"root does not use files that others can change: {reason}" for reason in reasons]
            )


def _foreign(step: _Step) -> str:
    if step.status.st_uid:
        return f"{step.path} belongs to {user(step.status.st_uid)} (chown root {step.path})"
    return "" if stat.S_ISLNK(step.status.st_mode) else _open_to_others(step, sticky=True)


def _open_to_others(step: _Step, *, sticky: bool) -> str:
    """Return an error if users other than the owner can write to a path; `sticky` allows one like /tmp."""
    mode = step.status.st_mode
    if (sticky and mode & stat.S_ISVTX and stat.S_ISDIR(mode)) or not mode & (0o022 if step.status.st_gid else 0o002):
        return ""
    return f"{step.path} is writable by users other than root (chmod go-w {step.path})"


def _steps(path: Path) -> Iterator[_Step]:
    """Yield each symlink, folder and file on the way to an absolute path, following symlinks, as far as it exists.

    Raises StoreError for symlink loops.
    """
    here, rest, links = Path("/"), list(path.parts[1:]), 0
    yield _Step(here, here.lstat())
    while rest:
        name = rest.pop(0)
        if name == "..":
            here = here.parent
            continue
        try:
            status = (here / name).lstat()
        except OSError:
            return
        yield _Step(here / name, status)
        if not stat.S_ISLNK(status.st_mode):
            here /= name
            continue
        links += 1
        if links > MOST_LINKS:
            raise StoreError(f"{path}: symlink loop")
        target = (here / name).readlink()
        rest = [*(target.parts[1:] if target.is_absolute() else target.parts), *rest]
        here = Path("/") if target.is_absolute() else here


def _below(folder: Path) -> Iterator[_Step]:
    """Yield the content of a folder recursively, without following symlinks."""
    count = 0
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            count += 1
            if count > MOST_FILES:
                raise ConfigurationError([f"{folder}: more than {MOST_FILES} files"])
            yield _Step(Path(place, name), Path(place, name).lstat())


def user(number: int) -> str:
    """Return a user's name, or the id if there is none."""
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def _user(status: os.stat_result) -> Owner:
    try:
        entry = pwd.getpwuid(status.st_uid)
    except KeyError:
        return Owner(status.st_uid, status.st_gid, str(status.st_uid), "/", (status.st_gid,))
    groups = os.getgrouplist(entry.pw_name, entry.pw_gid)
    return Owner(entry.pw_uid, entry.pw_gid, entry.pw_name, entry.pw_dir, tuple(groups))


def become(owner: Owner) -> None:
    """Switch to a user irrevocably, with its groups, environment, and / as working directory. Raises StoreError.

    no_new_privs stays off: sendmail may be setgid.
    """
    try:
        os.setgroups(owner.groups)
        os.setresgid(owner.gid, owner.gid, owner.gid)
        os.setresuid(owner.uid, owner.uid, owner.uid)
    except OSError as error:
        raise StoreError(f"cannot switch to {owner.name}, who owns the store: {error.strerror}") from None
    if _can_return(owner) or os.getresuid() != (owner.uid,) * 3 or os.getresgid() != (owner.gid,) * 3:
        raise StoreError(f"became {owner.name}, who owns the store, but could not drop root: nothing was done")
    os.umask(UMASK)
    os.chdir("/")
    os.environ.update(HOME=owner.home, USER=owner.name, LOGNAME=owner.name)
    if not os.access(os.environ.get("TMPDIR", "/"), os.W_OK):
        os.environ.pop("TMPDIR", None)
    if "tempfile" in sys.modules:  # it caches a folder that may be inaccessible now
        sys.modules["tempfile"].__dict__["tempdir"] = None


def _can_return(owner: Owner) -> bool:
    """Return whether root can be regained; group 0 does not count if it is the owner's own."""
    groups = (os.setgid, os.setegid) if owner.gid else ()
    for turn in (os.setuid, os.seteuid, *groups):
        try:
            turn(0)
        except OSError:
            continue
        return True
    return False
