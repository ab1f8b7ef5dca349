"""fail2ban's own database, held as root and copied as whoever works on the store. Its rows are not read here."""

import logging
import os
import sqlite3
import stat
from pathlib import Path

from f2b_digest import privileges
from f2b_digest.fail2ban import database

log = logging.getLogger(__name__)


class Snapshot:
    """The database as it was at one moment."""

    def __init__(self, path: Path) -> None:
        """Open it, and keep fail2ban from writing to it until `copy`.

        As root only where nobody else could put another file in its place; else `copy` opens it.
        """
        self.path = path
        self.connection: sqlite3.Connection | None = None
        self.unseen = False
        """There is one, and it cannot be looked at."""
        self.reason = ""
        """Why there is no connection."""
        changeable = privileges.changeable(path) if os.geteuid() == 0 else ""
        if changeable:
            self._passed_over(changeable)
        else:
            self._hold()

    def _passed_over(self, reason: str) -> None:
        self.connection, self.unseen, self.reason = None, True, reason
        log.info("fail2ban's database, %s: %s", self.path, reason)

    def _hold(self) -> None:
        try:
            if not stat.S_ISREG(self.path.stat().st_mode):
                self._passed_over("is not a regular file")
                return
            connection = database.frozen(self.path)
        except FileNotFoundError as error:
            self.unseen, self.reason = False, str(error.strerror)
        except (OSError, sqlite3.Error) as error:
            self._passed_over(str(error) if isinstance(error, sqlite3.Error) else str(error.strerror))
        else:
            self.connection, self.unseen, self.reason = connection, False, ""

    def copy(self) -> None:
        """Copy it into a temporary database of one's own, which ends with the process, and let fail2ban go on."""
        if self.unseen:
            self._hold()
        if self.connection is None:
            return
        held, copy = self.connection, sqlite3.connect("", check_same_thread=False)
        try:
            held.backup(copy)
        except sqlite3.Error as error:
            copy.close()
            self._passed_over(str(error))
        else:
            self.connection = copy
        finally:
            held.close()
