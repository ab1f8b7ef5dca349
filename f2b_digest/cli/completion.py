"""`completion`, and the names that a shell completes: reports, channels, jails and digests' numbers.

Completion never prints errors: what cannot be read has no names. Root switches to the store's owner before.
"""

import logging
import os
import re
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import click
from click.shell_completion import CompletionItem, get_completion_class

from f2b_digest.cli.program import Program, system_configuration

log = logging.getLogger(__name__)
VARIABLE = "_F2B_DIGEST_COMPLETE"
DIGESTS = 30
_PLAIN = re.compile(r"[\w.@+:/-]+", re.ASCII)
"""Words that are safe in any shell, in case of hostile jail names."""
Names = Callable[[Program], Iterable[CompletionItem]]


@click.command()
@click.argument("shell", type=click.Choice(("bash", "zsh", "fish")))
@click.pass_context
def command(context: click.Context, shell: str) -> None:
    """Print the shell completion script.

    It completes commands, options, reports, channels, jails and numbers of digests.

    \b
    Examples:  f2b-digest completion bash > /etc/bash_completion.d/f2b-digest
               f2b-digest completion zsh > /usr/local/share/zsh/site-functions/_f2b-digest
               f2b-digest completion fish > ~/.config/fish/completions/f2b-digest.fish
    """  # noqa: D301 - click wants the character, not its name
    made = get_completion_class(shell)
    assert made is not None
    click.echo(made(context.find_root().command, {}, "f2b-digest", VARIABLE).source())


def completes(*kinds: Names) -> Callable[[click.Context, click.Parameter, str], list[CompletionItem]]:
    """Return click's completion callback for a parameter."""

    def complete(context: click.Context, _: click.Parameter, begun: str) -> list[CompletionItem]:
        """Return the names that begin as the word does; none where nothing can be read."""
        given = context.find_root().params
        config = given.get("config") or os.environ.get("F2B_DIGEST_CONFIG") or system_configuration()
        program = Program(config and Path(config), given.get("store"), clock=time.time, verbose=False, asks_host=False)
        found: list[CompletionItem] = []
        for names in kinds:
            try:
                found += names(program)
            except Exception:  # errors must not disturb the prompt
                log.debug("nothing to complete", exc_info=True)
        return [each for each in found if each.value.startswith(begun) and _PLAIN.fullmatch(each.value)]

    return complete


def reports(program: Program) -> Iterable[CompletionItem]:
    """Return the reports of the configuration."""
    return map(CompletionItem, program.quiet_configuration().reports)


def channels(program: Program) -> Iterable[CompletionItem]:
    """Return the channels of the configuration."""
    return map(CompletionItem, program.quiet_configuration().channels)


def jails(program: Program) -> Iterable[CompletionItem]:
    """Return the jails of the store."""
    from f2b_digest.store import Store

    with Store(program.begin(program.quiet_configuration()), read_only=True) as store:
        return [CompletionItem(jail) for jail in store.jails()]


def digests(program: Program) -> Iterable[CompletionItem]:
    """Return the newest digests, by number, with their report and day."""
    from f2b_digest.cli.archive import said
    from f2b_digest.store import Store

    configuration = program.quiet_configuration()
    with Store(program.begin(configuration), read_only=True) as store:
        sealed = store.digests(most=DIGESTS)
    return [
        CompletionItem(str(each.id), help=f"{each.report}, {said(each.sealed_at, configuration, each.report)}")
        for each in sealed
    ]


def words(known: Sequence[str]) -> Names:
    """Return fixed words."""
    return lambda _: map(CompletionItem, known)


DAYS = words(
    ("last", "today", "yesterday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
)
