"""The exception tree, each class with its exit status; no messages are printed and nothing is caught here."""

from collections.abc import Iterable
from pathlib import Path


class F2bDigestError(Exception):
    """Something that the operator can act on: the text says what happened, to whom, and what to do."""

    exit_status = 1


class ConfigurationError(F2bDigestError):
    """The configuration cannot be used; `mistakes` holds a line for each place."""

    exit_status = 78

    def __init__(self, mistakes: list[str]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = mistakes


class StoreError(F2bDigestError):
    """The store is missing, damaged, not ours, newer than this program, or not ours to open."""


class DamagedStoreError(StoreError):
    """SQLite finds the store's file damaged: nothing more is written to it."""


class TemplateError(F2bDigestError):
    """A template cannot be rendered; the text names it, the line and the reason.

    `template` is the one that was asked for; the fault can be in another that it takes in.
    """

    def __init__(self, template: str, text: str) -> None:
        super().__init__(f"template {text}")
        self.template = template


class SetupError(F2bDigestError):
    """The machine cannot be set up as it stands; what was begun was taken back, or the text says what was not."""


class DeliveryError(F2bDigestError):
    """A channel could not deliver one message.

    `permanent` is true where trying again cannot help and the admin has to act. `reason` goes to the store, to
    `status` and to the terminal: it holds no secret and is one line. `in_doubt` is true where the other side may
    have taken the message all the same: its answer got lost. `unreachable` is true where the other side gave no
    answer at all, so that nobody else gets one now either.
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
    """A fleet's centre refused, or gave no answer; the text is one line without a secret.

    `away` is true where trying again later can help. `state` is the SQLSTATE, "" where the server said nothing.
    """

    def __init__(self, text: str, *, away: bool, state: str = "") -> None:
        super().__init__(text)
        self.away = away
        self.state = state
        self.exit_status = 75 if away else 1


class PartlyDeliveredError(DeliveryError):
    """The other side took a part of the message; the next attempt sends `remaining`."""

    def __init__(self, error: DeliveryError, remaining: bytes) -> None:
        super().__init__(
            error.reason, permanent=error.permanent, in_doubt=error.in_doubt, unreachable=error.unreachable
        )
        self.remaining = remaining


def hint(word: str, names: Iterable[str], meant: object) -> str:
    """Return "did you mean …?", or else the list of names after a word, or nothing if there are none."""
    from difflib import get_close_matches  # noqa: PLC0415 - a command that records a ban makes no mistakes

    known = list(names)
    close = get_close_matches(meant, known, 1) if isinstance(meant, str) else []
    return f"did you mean {close[0]}?" if close else f"{word}: {', '.join(known)}" if known else ""


def bug(error: BaseException) -> str:
    """Return a line on an error that nobody foresaw: its kind and place, and not its text, which may hold a secret."""
    place, step = "an unknown place", error.__traceback__
    while step:  # not by `traceback`, which every command would load for it
        place, step = f"{Path(step.tb_frame.f_code.co_filename).name}, line {step.tb_lineno}", step.tb_next
    return f"a bug in f2b-digest: {type(error).__name__} at {place}; please report it"


def unreadable(path: Path, error: OSError) -> str:
    """Return a line on a file that cannot be read, with what to do where a user may not."""
    advice = ": run this as root" if isinstance(error, PermissionError) else ""
    return f"{path}: {error.strerror}{advice}"
