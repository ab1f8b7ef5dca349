"""The files of an installation: their content, installing and removing them, and the admin's changes to them.

Paths are those of the installed system; a `Tree` has its root folder. Nothing is asked or printed here, and no
program is run.
"""

from f2b_digest.installation import crontab
from f2b_digest.installation.files import (
    ACTIONS,
    CONFIGURATION,
    CRON_FILE,
    FLEET,
    PERIODIC,
    RETRY_TIMER,
    actions,
    cron_file,
    first_configuration,
    periodic,
    store_files,
    timers,
    units,
)
from f2b_digest.installation.tree import MANIFEST, File, Manifest, Step, Tree, remove_folder

__all__ = [
    "ACTIONS", "CONFIGURATION", "CRON_FILE", "FLEET", "MANIFEST", "PERIODIC", "RETRY_TIMER", "File", "Manifest", "Step",
    "Tree", "actions", "cron_file", "crontab", "first_configuration", "periodic", "remove_folder", "store_files",
    "timers", "units",
]  # fmt: skip
