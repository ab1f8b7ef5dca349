"""Preloading before root switches to the store's owner, who may be unable to read the program's own files.

A program in an inaccessible folder (a virtual environment below /root) is found through descriptors of its folders.
"""

import logging
import os
import pkgutil
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib import import_module

import f2b_digest

log = logging.getLogger(__name__)
WAY = "/proc/self/fd/"
NOT_NEEDED = ("f2b_digest.__main__", "f2b_digest.cli.setup")
NEEDED_IF_THERE = ("f2b_digest.channels.", "f2b_digest.checks", "f2b_digest.cli.", "f2b_digest.rdap")
"""Modules of other channels and other commands, unless they are loaded: a configuration loads its channels."""
OF_A_FLEET = ("f2b_digest.fleet", "f2b_digest.cli.fleet", "f2b_digest.cli.forward")
"""Modules that need psycopg, which a single host does not have."""


def keep_modules_open() -> None:
    """Keep modules importable after dropping root, through a descriptor of each folder of sys.path."""
    ways = {}
    for folder in filter(os.path.isdir, sys.path):
        if folder.startswith(WAY):  # already done
            return
        descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        ways[folder] = f"{WAY}{descriptor}"
    for places in (sys.path, *_package_paths()):
        places += [
            way + place[len(folder) :]
            for place in list(places)
            for folder, way in ways.items()
            if place == folder or place.startswith(f"{folder}/")
        ]


def _package_paths() -> list[list[str]]:
    paths = [getattr(module, "__path__", None) for module in list(sys.modules.values())]
    return [path for path in paths if isinstance(path, list)]


def _load_modules(folders: Iterable[str], prefix: str) -> None:
    for module in pkgutil.iter_modules(folders, prefix):
        spared = module.name.startswith(NEEDED_IF_THERE) and module.name not in sys.modules
        if not spared and module.name not in NOT_NEEDED and not module.name.startswith(OF_A_FLEET):
            loaded = import_module(module.name)
            if module.ispkg:
                _load_modules(loaded.__path__, f"{module.name}.")


def load(languages: Iterable[str]) -> None:
    """Load every module of this package that the command may need, and the files of its languages."""
    from f2b_digest.rendering.i18n import load_language

    _load_modules(f2b_digest.__path__, "f2b_digest.")
    "example.org".encode("idna")
    for lang in map(load_language, languages):
        try:
            lang.number(1.5), lang.day(datetime.now(UTC)), lang.territory("FR"), lang.ngettext("", "", 2)
        except Exception:  # reported when the language is used
            log.info("language %s could not be loaded whole", lang.code, exc_info=True)
