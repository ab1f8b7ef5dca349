"""The command channel: runs a program with the digest on standard input and totals in the environment."""

from collections.abc import Iterable
from datetime import UTC
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from f2b_digest.channels import process
from f2b_digest.channels.base import Channel, Health, one_line
from f2b_digest.errors import DeliveryError
from f2b_digest.model.bans import Banned
from f2b_digest.model.digest import moment
from f2b_digest.model.message import Content, Message, Needs, Stamp

TRY_AGAIN = 75
"""EX_TEMPFAIL of sysexits.h."""
VARIABLES = tuple(f"F2B_DIGEST_{name}" for name in ("REPORT", "HOST", "BANS", "ADDRESSES", "JAILS", "FAILURES", "ID"))
"""The variables at the start of a stored message, one per line. No others are passed: whoever can write to the store
could otherwise choose what the program loads."""


NEEDS = {
    "text": Needs(("command/input.txt",)),
    "json": Needs(document=True),
    "lines": Needs(addresses=True),
}


def _check_command(command: tuple[str, ...]) -> tuple[str, ...]:
    if not command[0].startswith("/"):
        raise ValueError(f"{command[0]!r} must be an absolute path: cron sets a different PATH")
    if any("\0" in word for word in command):
        raise ValueError("must not contain a NUL byte")
    return command


class Command(Channel):
    """Run a program with the digest on standard input and totals in its environment.

    Exit status 0: sent. 75: retried later. Anything else: failed.
    """

    kind: Literal["command"]
    command: Annotated[tuple[str, ...], Field(min_length=1), AfterValidator(_check_command)]
    """Absolute path of the program and its arguments; no shell is used. Example: ["/usr/local/bin/on-digest", "-q"]."""
    input: Literal["text", "json", "lines"] = "text"
    """What the program reads: "text" (the template command/input.txt), "json" (the digest's document), or "lines": one
    for each jail and address, with jail, address, bans, failures, first and last ban, separated by tabs.
    """
    timeout: float = Field(default=60, gt=0, le=110)
    """Seconds until the program is killed."""

    @property
    def needs(self) -> Needs:
        """What `input` says."""
        return NEEDS[self.input]

    @property
    def recipients(self) -> tuple[str, ...]:
        """Return the program."""
        return (self.command[0],)

    def pack(self, content: Content, stamp: Stamp) -> bytes:
        """Return the variables, a line each, an empty line, and the input."""
        failures = "" if stamp.failures is None else stamp.failures  # unknown
        totals = (stamp.report, stamp.host, stamp.bans, stamp.addresses, stamp.jails, failures, stamp.uuid)
        lines = [f"{name}={one_line(str(value), 300)}" for name, value in zip(VARIABLES, totals, strict=True)]
        return ("\n".join(lines) + "\n\n" + self._input(content)).encode("utf-8", "replace")

    def _input(self, content: Content) -> str:
        if self.input == "lines":
            return "".join(_lines(content.addresses))
        return next(iter(content.parts.values()), content.document)

    def accept(self, message: Message) -> None:
        """Raise ValueError if the program would get other variables."""
        super().accept(message)
        _totals(message.body)

    def deliver(self, message: Message) -> None:
        """Run the program."""
        text = message.body.partition(b"\n\n")[2]
        variables = process.environment() | _totals(message.body)
        if message.in_doubt:
            variables["F2B_DIGEST_POSSIBLE_DUPLICATE"] = "yes"
        status, said = process.run(self.command, text, variables, self.timeout)
        if status:
            raise DeliveryError(
                f"{self.command[0]}: {process.how_it_ended(status)}: {said}",
                permanent=status > 0 and status != TRY_AGAIN,
                in_doubt=status < 0,
            )

    def check(self) -> Health:
        """Check that the program exists."""
        return Health(f"{process.find(self.command[0])} found")


def _lines(addresses: Iterable[Banned]) -> Iterable[str]:
    for each in addresses:
        failures = "" if each.failures is None else each.failures
        times = (moment(at, UTC).isoformat(timespec="seconds") for at in (each.first, each.last))
        fields = (each.jail, each.ip, each.bans, failures, *times)
        yield "\t".join(one_line(str(field), 300) for field in fields) + "\n"


def _totals(body: bytes) -> dict[str, str]:
    """Return the variables at the start of a message. Raises ValueError if there are others."""
    lines = body.partition(b"\n\n")[0].decode().split("\n")
    totals = dict(line.partition("=")[::2] for line in lines)
    if tuple(totals) != VARIABLES or not all(value.isprintable() for value in totals.values()):
        raise ValueError("the message lacks the leading variables")
    return totals
