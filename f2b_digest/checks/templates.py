"""Checks of the templates: renders each configured message with generated digests."""

from collections.abc import Iterator
from difflib import get_close_matches
from functools import partial

from f2b_digest.channels.base import Channel
from f2b_digest.checks.finding import Finding, error, ok, warning
from f2b_digest.checks.sample import digests
from f2b_digest.config import Configuration
from f2b_digest.delivery import fit, renderer_for, stamp_of
from f2b_digest.errors import TemplateError
from f2b_digest.model.digest import Digest
from f2b_digest.model.message import Content
from f2b_digest.rendering.renderer import Renderer

WHAT = "templates"


def examine(configuration: Configuration, renderer: Renderer) -> Iterator[Finding]:
    """Render every template of each channel of each report, in its language, as a send would; yield what breaks."""
    faults = [fault for folder in renderer.folders if (fault := folder.fault("."))]
    told = dict.fromkeys(f"folder {fault}" for fault in faults)
    for report, name in _ways(configuration):
        speaking = renderer_for(renderer, configuration, report)
        for line in _broken(configuration.channels[name], report, name, configuration.host, speaking):
            if not any(line.startswith(f"template {fault}") for fault in faults):  # reported above
                told[line] = None
    for line in told:
        yield error(WHAT, line, "fix it, or the built-in template is used")
    yield from _unused(configuration, renderer)
    if not told:
        own = sum(len(folder.texts) for folder in renderer.folders)
        yield ok(WHAT, f"{f'{own} custom and ' * bool(own)}the built-in ones, rendered with sample digests")


def _unused(configuration: Configuration, renderer: Renderer) -> Iterator[Finding]:
    """Yield a warning for each file that neither a channel nor another file uses: its name may be mistyped."""
    known = renderer.built_in.union(*(channel.needs.templates for channel in configuration.channels.values()))
    for folder in renderer.folders:
        for name in sorted(folder.texts.keys() - known):
            if not any(name in text for text in folder.texts.values()):
                close = get_close_matches(name, known, 1)
                todo = f"did you mean {close[0]}?" if close else "see docs/templates.md for the names"
                yield warning(WHAT, f"{folder.path / name} is not used by any channel", todo)


def _ways(configuration: Configuration) -> Iterator[tuple[str, str]]:
    """Yield each channel with its report's name; "" for channels without a report."""
    unused = dict.fromkeys(configuration.channels)
    for report, wanted in configuration.reports.items():
        for name in wanted.channels:
            unused.pop(name, None)
            yield report, name
    yield from (("", name) for name in unused)


def _broken(channel: Channel, report: str, name: str, host: str, renderer: Renderer) -> Iterator[str]:
    """Yield templates of a channel that cannot be rendered, and what is used instead."""
    if not channel.needs.templates:
        return
    for digest in digests(report or "daily", host):
        try:
            _, noted = fit(channel.needs, digest, renderer, partial(_fits, channel, digest, name))
        except TemplateError as refused:
            yield str(refused)
        else:
            yield from noted.notes[len(digest.notes) :]


def _fits(channel: Channel, digest: Digest, name: str, content: Content) -> bool:
    return channel.fits(content, stamp_of(digest, "0" * 32, name, digest.end.timestamp()))
