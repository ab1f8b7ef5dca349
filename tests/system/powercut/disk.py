"""What may be on a disk after a power cut: all that was synced, and of the rest any part. No file is read here."""

import os
import random
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.system.powercut.recording import Step

SECTORS = (512, 4096)
"""Bytes that a disk writes as a whole."""
Chance = Callable[[Step], bool]


def image(steps: Sequence[Step], root: str, away: str, chance: random.Random) -> dict[str, bytes | None]:
    """Return by path the bytes of every file that a cut behind these steps may leave, and None for folders.

    `away` is a folder on another machine, which no cut befalls.
    """
    luck = chance.choice((0.0, 0.5, 0.5, 0.5, 0.9, 1.0))  # of a change that was not synced
    sector = chance.choice((0, *SECTORS))  # 0: a write is there as a whole or not at all
    synced, names_synced = _last_syncs(steps)
    files: dict[int, bytearray] = {}
    names: dict[str, int] = {}
    for place, step in enumerate(steps):
        remote = step.kind == "names" and step.folder.startswith(away)
        if step.kind == "names":
            if remote or place < names_synced.get(step.folder, -1) or chance.random() < luck:
                _rename(names, step)
        elif step.kind in ("write", "length"):
            content = files.setdefault(step.file, bytearray())
            if place < synced.get(step.file, -1):
                _apply(content, step, 0, len(step.data))
            else:
                _tear(content, step, sector, lambda: chance.random() < luck)
    return _tree(names, files, root)


def _last_syncs(steps: Sequence[Step]) -> tuple[dict[int, int], dict[str, int]]:
    """Return where each file, and each folder, was synced the last time."""
    files, folders = {}, {}
    for place, step in enumerate(steps):
        if step.kind == "sync" and step.file:
            files[step.file] = place
        elif step.kind == "sync":
            folders[step.folder] = place
    return files, folders


def _rename(names: dict[str, int], step: Step) -> None:
    for path, file in step.names:
        if file is None:
            names.pop(path, None)
        else:
            names[path] = file


def _tear(content: bytearray, step: Step, sector: int, lucky: Callable[[], bool]) -> None:
    """Apply a change that was not synced: sector by sector, as a whole, or not at all."""
    if step.kind == "length" or not sector:
        if lucky():
            _apply(content, step, 0, len(step.data))
        return
    start = 0
    while start < len(step.data):
        end = min(len(step.data), (step.at + start) // sector * sector + sector - step.at)
        if lucky():
            _apply(content, step, start, end)
        start = end


def _apply(content: bytearray, step: Step, start: int, end: int) -> None:
    if step.kind == "length":
        del content[step.at :]
        content.extend(bytes(step.at - len(content)))
        return
    content.extend(bytes(max(0, step.at + end - len(content))))
    content[step.at + start : step.at + end] = step.data[start:end]


def _tree(names: dict[str, int], files: dict[int, bytearray], root: str) -> dict[str, bytes | None]:
    """Return what can be reached from the root."""
    found: dict[str, bytes | None] = {}
    for path in sorted(names):
        parent = os.path.dirname(path)
        if parent == root or (parent in found and found[parent] is None):
            found[path] = None if names[path] == -1 else bytes(files.get(names[path], b""))
    return found


def lay_out(tree: dict[str, bytes | None], root: str, target: Path) -> None:
    """Make the files and folders of an image in another place."""
    for path, content in tree.items():
        place = target / os.path.relpath(path, root)
        if content is None:
            place.mkdir()
        else:
            place.write_bytes(content)
