"""`resend`: deliver a digest of the archive once more."""

import click

from f2b_digest import delivery
from f2b_digest.channels.mime import bare_address
from f2b_digest.cli import completion
from f2b_digest.cli.program import Program
from f2b_digest.cli.send import sending, tell
from f2b_digest.config import Configuration
from f2b_digest.errors import F2bDigestError, hint
from f2b_digest.store import Delivery, Outbox


@click.command()
@click.argument("id", type=int, shell_complete=completion.completes(completion.digests))
@click.option(
    "--channel",
    metavar="NAME",
    shell_complete=completion.completes(completion.channels),
    help="Only this channel. Default: all channels of the digest.",
)
@click.option("--to", metavar="ADDRESS", help="Recipient to use instead (email channels only).")
@click.pass_obj
def command(program: Program, id: int, channel: str | None, to: str | None) -> None:  # noqa: A002
    """Deliver a past digest again.

    ID is the number that `history` shows. The stored bytes go out, with the same Message-ID, so that some mail systems
    drop the copy for a recipient who has the first one. Each copy is a delivery of its own, and is tried again as any
    other.

    \b
    Example:   f2b-digest resend 12 --channel mail --to boss@example.org
    """  # noqa: D301 - click wants the character, not its name
    configuration = program.configuration()
    try:
        to = to if to is None else bare_address(to)
    except ValueError as error:
        raise click.UsageError(f"--to: {error}") from None
    with sending(program, configuration) as store:
        originals = _originals(configuration, store, id, channel, to)
        outcomes = delivery.resend(configuration, store, originals, to, program.clock)
    tell(outcomes, program.verbose)


def _originals(
    configuration: Configuration, store: Outbox, key: int, channel: str | None, to: str | None
) -> list[Delivery]:
    """Return the deliveries to repeat, each channel's each recipient once. Raises where there is nothing to repeat."""
    stored = store.deliveries(digests=[key])
    found = {(row.channel, row.recipient): row for row in stored if channel in (None, row.channel)}
    if not found:
        what = f"digest {key} by channel {channel!r}" if channel else f"digest {key}"
        there_is = hint("there is", {row.channel: 0 for row in stored}, channel) or "`f2b-digest history` lists digests"
        raise F2bDigestError(f"no delivery of {what} is stored ({there_is})")
    if store.document(key) is None and not all(store.message(row.id) for row in found.values()):
        raise F2bDigestError(f"the messages of digest {key} were pruned")
    if to is None:
        return list(found.values())
    by_channel = {row.channel: row for row in found.values() if _addressable(configuration, row.channel)}
    if not by_channel:
        raise click.UsageError("--to works for email channels only")
    return list(by_channel.values())


def _addressable(configuration: Configuration, name: str) -> bool:
    channel = configuration.channels.get(name)
    return channel is not None and channel.any_recipient
