"""The exception tree, each class with its exit status; no messages are printed and nothing is caught here."""

from collections.abc import Iterable
from pathlib import Path


class F2bDigestError(Exception):
    """An error that the operator can act on: the text says what happened, where, and what to do."""

    exit_status = 1


class ConfigurationError(F2bDigestError):
    """The configuration is invalid; `mistakes` has one line per key."""

    exit_status = 78

    def __init__(self, mistakes: list[str]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = mistakes


class StoreError(F2bDigestError):
    """The store is missing, damaged, another program's, newer than this program, or inaccessible."""


class DamagedStoreError(StoreError):
    """The store's file is damaged according to SQLite: it is not written to any more."""


class TemplateError(F2bDigestError):
    """A template cannot be rendered; the text names it, the line and the reason.

    `template` is the requested one; the error can be in one that it includes.
    """

    def __init__(self, template: str, text: str) -> None:
        super().__init__(f"template {text}")
        self.template = template


class SetupError(F2bDigestError):
    """Setup failed; its changes were rolled back, or the text says which were not."""


class DeliveryError(F2bDigestError):
    """A channel could not deliver one message.

    `permanent` is true if retrying cannot help and the admin has to act. `reason` goes to the store, to
    `status` and to the terminal: one line without secrets. `in_doubt` is true if the server may
    have accepted the message nevertheless: its response was lost. `unreachable` is true if the server gave no
    response at all, so other deliveries to it would fail too.
    """

    def __init__(
        self,
        reason: str,
        *,
        permanent: bool,
        in_doubt: bool = False,
        unreachable: bool = False,
    ) -> None:
        self.reason = " ".join("".join(c if c.isprintable() else " " for c in reason).split())[:300]
        self.permanent = permanent
        self.in_doubt = in_doubt
        self.unreachable = unreachable
        super().__init__(self.reason)


class CentreError(F2bDigestError):
    """A fleet's centre refused or did not answer; the text is one line without secrets.

    `away` is true if retrying later can help. `state` is the SQLSTATE, "" if there was no response.
    """

    def __init__(self, text: str, *, away: bool, state: str = "") -> None:
        super().__init__(text)
        self.away = away
        self.state = state
        self.exit_status = 75 if away else 1


class PartlyDeliveredError(DeliveryError):
    """The server accepted a part of the message; the next attempt sends `remaining`."""

    def __init__(self, error: DeliveryError, remaining: bytes) -> None:
        super().__init__(
            error.reason, permanent=error.permanent, in_doubt=error.in_doubt, unreachable=error.unreachable
        )
        self.remaining = remaining


MOST_NAMES = 20
"""Of those that `hint` lists."""


def hint(word: str, names: Iterable[str], meant: object) -> str:
    """Return "did you mean …?", or else the list of names after a word, or "" if there are none."""
    from difflib import get_close_matches  # noqa: PLC0415 - a command that records a ban makes no mistakes

    known = list(names)
    close = get_close_matches(meant, known, 1) if isinstance(meant, str) else []
    listed = ", ".join(known[:MOST_NAMES] + ["…"] * (len(known) > MOST_NAMES))
    return f"did you mean {close[0]}?" if close else f"{word}: {listed}" if known else ""


def bug(error: BaseException) -> str:
    """Return a line on an unexpected error: its class and place, without its text, which may contain a secret."""
    place, step = "an unknown place", error.__traceback__
    while step:  # not with `traceback`, to keep start-up fast
        place, step = f"{Path(step.tb_frame.f_code.co_filename).name}, line {step.tb_lineno}", step.tb_next
    return f"a bug in f2b-digest: {type(error).__name__} at {place}; please report it"


def unreadable(path: Path, error: OSError) -> str:
    """Return a line on a file that cannot be read, with what to do if permission is denied."""
    advice = ": run this as root" if isinstance(error, PermissionError) else ""
    return f"{path}: {error.strerror}{advice}"
