"""The command channel: a program of the admin's, the rendered text on its standard input, totals in its environment."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from f2b_digest.channels import process
from f2b_digest.channels.base import Channel, Health, one_line
from f2b_digest.errors import DeliveryError
from f2b_digest.message import Message, Stamp

TRY_AGAIN = 75
"""EX_TEMPFAIL of sysexits.h."""


def _check_command(command: tuple[str, ...]) -> tuple[str, ...]:
    if not command[0].startswith("/"):
        raise ValueError(f"{command[0]!r} must be an absolute path: cron has a PATH of its own")
    if any("\0" in word for word in command):
        raise ValueError("holds a NUL")
    return command


class Command(Channel):
    """Exit status 0 is sent, 75 is tried again, anything else failed."""

    kind: Literal["command"]
    command: Annotated[tuple[str, ...], Field(min_length=1), AfterValidator(_check_command)]
    """The program and its arguments; no shell sees them."""
    timeout: float = Field(default=60, gt=0, le=110)
    """Seconds, after which it is killed."""

    @property
    def templates(self) -> tuple[str, ...]:
        """The text."""
        return ("command/input.txt",)

    @property
    def recipients(self) -> tuple[str, ...]:
        """Return the program."""
        return (self.command[0],)

    def fits(self, parts: Mapping[str, str], stamp: Stamp) -> bool:
        """Say that any text does."""
        return True

    def pack(self, parts: Mapping[str, str], stamp: Stamp) -> bytes:
        """Return the variables, a line each, an empty line, and the text."""
        totals = {
            "REPORT": stamp.report, "HOST": stamp.host, "BANS": stamp.bans, "ADDRESSES": stamp.addresses,
            "JAILS": stamp.jails, "FAILURES": "" if stamp.failures is None else stamp.failures, "ID": stamp.uuid,
        }  # fmt: skip
        lines = [f"F2B_DIGEST_{name}={one_line(str(value), 300)}" for name, value in totals.items()]
        return ("\n".join(lines) + "\n\n" + parts["command/input.txt"]).encode("utf-8", "replace")

    def deliver(self, message: Message) -> None:
        """Run the program."""
        lines, _, text = message.body.partition(b"\n\n")
        totals = dict(line.split("=", 1) for line in lines.decode().split("\n"))
        variables = process.environment() | totals
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
        """See that the program is there."""
        return Health(f"{process.find(self.command[0])} is there")
