"""What a program did to a folder, call by call, as strace(1) saw it: writes, names and syncs, in order."""

import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.parts import program

CALLS = (
    "openat", "write", "pwrite64", "lseek", "ftruncate", "fallocate", "fsync", "fdatasync", "rename", "renameat",
    "renameat2", "link", "linkat", "unlink", "unlinkat", "mkdir", "mkdirat",
)  # fmt: skip
_CALL = re.compile(r"(\d+) +(\w+)\((.*)\) += (-?\d+)(?:<([^>]*)>)?")
_UNFINISHED = re.compile(r"(\d+) +(\w+\(.*) <unfinished \.\.\.>")
_RESUMED = re.compile(r"(\d+) +<\.\.\. \w+ resumed>(.*)")
_FILE = re.compile(r"(AT_FDCWD|\d+)<([^>]*)>")


@dataclass(frozen=True)
class Step:
    """One change: of a file's bytes, of its length, of names in a folder; a sync; or what was told to the world."""

    kind: str
    """write, length, names, sync, told."""
    file: int = 0
    """The number of a file (its inode, so to say), for write, length and sync; 0 is none."""
    at: int = 0
    """The offset of a write, or the new length; -1 as a length is that of the step's bytes at the least."""
    data: bytes = b""
    folder: str = ""
    """For names, and the sync of a folder."""
    names: tuple[tuple[str, int | None], ...] = ()
    """Full paths, and the file or folder that each is of from now on."""


def record(command: list[str], root: Path, trace: Path) -> list[Step]:
    """Run a program to its end, and return what it did below a folder."""
    strace = [program("strace", "apt-get install strace"), "-f", "-y", "-xx", "-s", "1000000", f"--output={trace}"]
    done = subprocess.run(
        [*strace, f"--trace={','.join('?' + call for call in CALLS)}", *command],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return list(_Reader(str(root)).steps(trace))


def _text(hexadecimal: str) -> str:
    return os.fsdecode(_bytes(hexadecimal))


def _bytes(hexadecimal: str) -> bytes:
    return bytes.fromhex(hexadecimal.replace("\\x", ""))


class _Reader:
    """Turns a trace into steps."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._names: dict[str, int] = {}  # by path, as a running program sees it
        self._length: dict[int, int] = {}
        self._position: dict[tuple[str, str], int] = {}
        self._appends: set[tuple[str, str]] = set()
        self._number = 0

    def steps(self, trace: Path) -> Iterator[Step]:
        begun: dict[str, str] = {}
        with trace.open(encoding="ascii") as lines:
            for line in lines:
                if unfinished := _UNFINISHED.match(line):
                    begun[unfinished[1]] = unfinished[2]
                    continue
                resumed = _RESUMED.match(line)
                call = _CALL.match(f"{resumed[1]} {begun.pop(resumed[1])}{resumed[2]}" if resumed else line)
                if call and int(call[4]) >= 0:
                    process, name, arguments, result, opened = call.groups()
                    yield from self._step(process, name, arguments.split(", "), int(result), _text(opened or ""))

    def _step(self, process: str, name: str, arguments: list[str], result: int, opened: str) -> Iterator[Step]:
        if name == "write" and arguments[0].startswith("2<"):
            yield Step("told", data=_bytes(arguments[1].strip('"')))
        elif name == "openat":
            yield from self._open(process, str(result), arguments, opened)
        elif name in ("write", "pwrite64", "lseek", "ftruncate", "fallocate", "fsync", "fdatasync"):
            yield from self._on_file(process, name, arguments, result)
        else:
            paths = self._paths(name, arguments)
            if paths[0].startswith(("/proc/", self._root)):
                yield from self._name(name, paths)

    def _is_ours(self, path: str) -> bool:
        return path.startswith(self._root + "/") and not path.endswith("-shm")

    def _new(self, path: str) -> int:
        self._number += 1
        self._names[path] = self._number
        self._length[self._number] = 0
        return self._number

    def _open(self, process: str, number: str, arguments: list[str], opened: str) -> Iterator[Step]:
        opened = opened.removesuffix("(deleted)").rstrip()
        flags = arguments[2]
        if not self._is_ours(opened):
            return
        key = (process, number)
        self._position[key] = 0
        self._appends.discard(key)
        if "O_APPEND" in flags:
            self._appends.add(key)
        if "O_TMPFILE" in flags:
            self._new(opened)
        elif "O_CREAT" in flags and opened not in self._names:
            yield Step("names", folder=os.path.dirname(opened), names=((opened, self._new(opened)),))
        elif "O_TRUNC" in flags:
            self._length[self._names[opened]] = 0
            yield Step("length", self._names[opened])

    def _on_file(self, process: str, name: str, arguments: list[str], result: int) -> Iterator[Step]:
        found = _FILE.match(arguments[0])
        if not found:
            return
        path = _text(found[2]).removesuffix("(deleted)").rstrip()
        key = (process, found[1])
        if name in ("fsync", "fdatasync") and path not in self._names:
            if path == self._root or path.startswith(self._root + "/"):
                yield Step("sync", folder=path)
            return
        if not self._is_ours(path) or path not in self._names:
            return
        file = self._names[path]
        if name == "lseek":
            self._position[key] = result
        elif name in ("fsync", "fdatasync"):
            yield Step("sync", file)
        elif name in ("ftruncate", "fallocate"):
            length = int(arguments[-1]) if name == "ftruncate" else max(self._length[file], int(arguments[-1]))
            self._length[file] = length
            yield Step("length", file, length)
        else:
            data = _bytes(arguments[1].strip('"'))[:result]
            at = int(arguments[-1]) if name == "pwrite64" else self._position[key]
            if key in self._appends:
                at = self._length[file]
            self._position[key] = at + result
            self._length[file] = max(self._length[file], at + result)
            yield Step("write", file, at, data)

    def _paths(self, name: str, arguments: list[str]) -> list[str]:
        """Return the paths that a call names, in full."""
        paths, folder = [], ""
        for argument in arguments:
            if found := _FILE.match(argument):
                folder = _text(found[2])
            elif argument.startswith('"'):
                paths.append(os.path.join(folder, _text(argument.strip('"'))))
        return paths

    def _name(self, name: str, paths: list[str]) -> Iterator[Step]:
        if name.startswith("mkdir"):
            yield Step("names", folder=os.path.dirname(paths[0]), names=((paths[0], -1),))
        elif name.startswith("unlink"):
            if self._names.pop(paths[0], None):
                yield Step("names", folder=os.path.dirname(paths[0]), names=((paths[0], None),))
        else:
            source, target = paths
            if source.startswith("/proc/"):  # a file that had no name
                source = next(path for path in self._names if "/#" in path)
            file = self._names[source]
            self._names[target] = file
            names: tuple[tuple[str, int | None], ...] = ((target, file),)
            if name.startswith("rename") or "/#" in source:
                del self._names[source]
            if name.startswith("rename"):
                names = ((source, None), *names)
            assert os.path.dirname(source) == os.path.dirname(target) or "/#" in source, "one folder is synced"
            yield Step("names", folder=os.path.dirname(target), names=names)
