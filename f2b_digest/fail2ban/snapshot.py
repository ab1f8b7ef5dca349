"""A snapshot of fail2ban's own database, opened as root and copied as the store's owner. Rows are not read here."""

import logging
import os
import sqlite3
import stat
from pathlib import Path

from f2b_digest import privileges
from f2b_digest.fail2ban import database

log = logging.getLogger(__name__)


class Snapshot:
    """A consistent snapshot of the database."""

    def __init__(self, path: Path) -> None:
        """Open it, and block fail2ban's writes until `copy`.

        As root only if no other user could replace the file; else `copy` opens it.
        """
        self.path = path
        self.connection: sqlite3.Connection | None = None
        self.unseen = False
        """Whether it exists but cannot be read."""
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
        """Copy it into a private temporary database, which ends with the process, and release fail2ban."""
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
