"""Rendering: limits are kept, hostile text stays text, and custom templates override one by one."""

import json
import re
import unicodedata
from dataclasses import fields, is_dataclass, replace
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from email.policy import default
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2 import Environment, meta, nodes

from f2b_digest import delivery, resources
from f2b_digest.channels.base import Channel
from f2b_digest.channels.email import Email
from f2b_digest.channels.ntfy import Ntfy
from f2b_digest.errors import TemplateError
from f2b_digest.model.counts import Counts
from f2b_digest.model.digest import Address, Digest, Jail, LeftOut, Totals
from f2b_digest.model.document import document
from f2b_digest.model.inquiry import Answer
from f2b_digest.model.message import Stamp
from f2b_digest.rendering.filters import is_address, nolink
from f2b_digest.rendering.layout import Layout
from f2b_digest.rendering.renderer import Renderer
from f2b_digest.text.visible import HIDDEN
from tests.support import samples
from tests.support.hostile import HOSTILE, Page
from tests.support.store_making import NOON

TEMPLATES = resources.folder("templates")
BUILT_IN = sorted(file.relative_to(TEMPLATES).as_posix() for file in TEMPLATES.glob("*/*"))
BUILT_IN_ONES = Renderer(TEMPLATES)
MOMENT = datetime(2026, 11, 19, 12, tzinfo=UTC)
MAIL = Email.model_validate({"kind": "email", "from": "f2b@example.org", "to": ["admin@example.org"]})
PHONE = Ntfy(kind="ntfy", url="https://ntfy.example.org", topic="alerts")
BESIDE = {"link", "addresses"}
"""What some channels' templates get beside the digest."""
GLOBALS = {"_", "gettext", "ngettext", "pgettext", "npgettext"}
"""What is no variable of the digest, and needs no word in a template's first comment."""


def digest_of(text: str, jails: int = 1, addresses: int = 1, users: int = 2, *, host: str = "web1") -> Digest:
    """Return a digest in which everything that somebody else chose is one text."""
    address = Address(
        text, 3, 15, MOMENT, MOMENT + timedelta(hours=1), 600, MOMENT + timedelta(hours=2), (text,) * users, 4
    )
    worst = (address,) * addresses
    jail = Jail(text, 3 * addresses + 5, addresses + 2, 15 * addresses, worst, LeftOut(addresses=2, bans=5))
    totals = Totals(jail.bans * jails + 7, jail.addresses * jails, jails + 3, 15 * addresses * jails)
    left_out = LeftOut(jails=3, bans=7)
    return Digest("daily", host, "UTC", MOMENT, MOMENT + timedelta(days=1), totals, (jail,) * jails, left_out)


def render(digest: Digest, channel: Channel = MAIL, own: Path | None = None) -> tuple[dict[str, str], bytes]:
    """Return a channel's rendered templates, and its message."""
    stamp = Stamp("uuid", digest.report, "out", digest.host, NOON, digest.totals.bans)
    renderer = Renderer(TEMPLATES, own) if own else BUILT_IN_ONES
    content, _ = delivery.fit(channel.needs, digest, renderer, lambda content: channel.fits(content, stamp))
    return dict(content.parts), channel.pack(content, stamp)


# ---- limits


def check_limits(digest: Digest) -> None:
    """Check everything that a provider, a server or a phone cuts."""
    parts, mail = render(digest)
    assert len(parts["email/body.html"].encode()) <= 80_000
    assert len(parts["email/body.txt"].encode()) <= 80_000
    subject = message_from_bytes(mail, policy=default)["Subject"]
    assert len(subject) <= 120
    assert subject.isprintable()
    notification = json.loads(render(digest, PHONE)[1])
    assert 0 < len(notification["message"].encode()) <= 4095
    assert len(notification["title"]) <= 120
    assert notification["title"].isprintable()


@pytest.mark.slow
@pytest.mark.parametrize("character", ["x", "<", ".", "😀", "\U000e0041"])
def test_the_limits_hold_whatever_was_banned(character: str) -> None:
    """A flood of long names of the worst characters fits into a mail and a notification."""
    text = character * 65536
    check_limits(digest_of(text, 40, 50, users=8, host=text[:253]))


@pytest.mark.parametrize(("jails", "addresses"), [(1, 50), (500, 2), (500, 0)])
def test_the_limits_hold_for_a_flood(jails: int, addresses: int) -> None:
    """One jail with many addresses, or many jails, fits as well."""
    check_limits(digest_of("x" * 60, jails, addresses, users=8))


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(st.text(), st.integers(1, 9), st.integers(0, 9))
def test_the_limits_hold_for_any_text(text: str, jails: int, addresses: int) -> None:
    """No name that anybody can think of breaks a limit."""
    check_limits(digest_of(text, jails, addresses, host=text or "web1"))


@pytest.mark.slow
@pytest.mark.parametrize("character", ["x", "<", ".", "😀", "\U000e0041"])
def test_the_limits_hold_with_every_section_full(character: str) -> None:
    """A flood that fills every section with the worst names still fits; only rows are left out."""
    check_limits(flood(character))


def flood(character: str) -> Digest:
    """Return a digest with as much in each section as the store gives, of names of one character."""
    digest = told(character * 65536)
    assert digest.users
    assert digest.where
    return replace(
        digest,
        jails=digest.jails[:1] * 40,
        facts=digest.facts * 6,
        several=digest.several * 5,
        campaigns=digest.campaigns * 5,
        users=replace(digest.users, most=digest.users.most[:1] * 10, existing=digest.users.existing * 5),
        where=replace(digest.where, countries=digest.where.countries * 2, networks=digest.where.networks * 4),
        when=samples.telling_week().when,
    )


@pytest.mark.slow
def test_as_many_rows_are_shown_as_fit() -> None:
    """A digest that fits is not cut but by the report; one that does not still shows jails and addresses."""
    for most, rows in ((50, 100), (5, 10), (0, 0)):
        text = render(replace(digest_of("192.0.2.1", 2, 50), shown=most))[0]["email/body.txt"]
        assert text.count("\n    192.0.2.1 ") == rows
    text = render(replace(digest_of("😀" * 60, 40, 50), shown=50))[0]["email/body.txt"]
    assert len(re.findall(r"^    😀+… +3 ", text, re.MULTILINE)) >= 40


# ---- hostile text


def told(text: str) -> Digest:
    """Return a digest in which every section is filled, and everything that somebody else chose is one text."""
    changed = replace(samples.telling(), facts=samples.every_fact(), advice=samples.every_advice())
    said: Digest = _said(changed, text)
    return said


OURS = frozenset({
    "kind", "why", "unit", "status", "line", "source", "licence", "timezone", "country", "code", "report", "channel",
    "recipient",
})  # fmt: skip
"""Keys whose values no attacker can choose; countries are two-letter codes from a database."""


def _said(value: Any, text: str, key: str = "") -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return replace(
            value, **{each.name: _said(getattr(value, each.name), text, each.name) for each in fields(value)}
        )
    if isinstance(value, tuple):
        return tuple(_said(item, text, key) for item in value)
    return text if isinstance(value, str) and key not in OURS else value


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_hostile_text_adds_nothing_to_the_page(text: str) -> None:
    """The page has the elements and attributes of a harmless digest, whatever the names are."""
    plain = "192.0.2.1" if is_address(text) else "harmless"  # addresses have a style of their own
    hostile, harmless = digest_of(text, host=text), digest_of(plain, host=plain)
    assert shape(hostile) == shape(harmless)


def shape(digest: Digest) -> list[object]:
    """Return a digest's elements and attributes."""
    return Page(render(digest)[0]["email/body.html"]).shape


@pytest.mark.parametrize(
    "text", [text for text in HOSTILE.values() if text], ids=[name for name in HOSTILE if HOSTILE[name]]
)
def test_hostile_text_adds_nothing_to_any_section(text: str) -> None:
    """Neither in a fact, an advice, a network's name or a log line is a name more than text."""
    for each in (urgent_half, news_half):
        assert shape(each(told(text))) == shape(each(told("harmless")))


def urgent_half(digest: Digest) -> Digest:
    """Return the digest without its first facts, so that the last of what needs attention are shown."""
    return replace(digest, facts=digest.facts[6:])


def news_half(digest: Digest) -> Digest:
    """Return the digest with its last facts."""
    return replace(digest, facts=digest.facts[-8:])


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(st.text(st.characters() | st.sampled_from("<>&\"'/={}%#"), max_size=40))
def test_no_text_adds_anything_to_the_page(text: str) -> None:
    """The same for any text."""
    test_hostile_text_adds_nothing_to_the_page(text)


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_no_control_character_reaches_a_terminal_or_a_phone(text: str) -> None:
    """Nothing moves the cursor, colours, reverses or hides a part of what is read."""
    digest = digest_of(text, host=text)
    (mail, _), (phone, _) = render(digest), render(digest, PHONE)
    for name, rendered in (mail | phone).items():
        hidden = {character for character in rendered if unicodedata.category(character) in HIDDEN}
        assert hidden <= {"\n"}, name


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_hostile_text_adds_no_line(text: str) -> None:
    """A name cannot pretend to be a row of the digest."""
    hostile, harmless = digest_of(text, host=text), digest_of("x" * 20, host="x" * 20)
    for name in ("email/subject.txt", "ntfy/title.txt", "ntfy/message.txt"):
        channel = PHONE if name.startswith("ntfy") else MAIL
        assert render(hostile, channel)[0][name].count("\n") == render(harmless, channel)[0][name].count("\n")


@pytest.mark.parametrize("kind", ["a link", "a mail address", "a name", "a name in Cyrillic", "a script link", "OSC"])
def test_no_mail_program_makes_a_link_of_a_name(kind: str) -> None:
    """Nothing in the page's text looks like an address to click on."""
    page = Page(render(digest_of(HOSTILE[kind], host=HOSTILE[kind]))[0]["email/body.html"])
    assert not re.search(r"\w:/|javascript:\w|www\.\w|\w@\w|\w\.[^\W\d]{2}", page.parted)
    assert not any(isinstance(element, tuple) and element[0] in ("a", "img", "link") for element in page.shape)


@pytest.mark.parametrize("ip", ["192.0.2.1", "2001:db8::abcd", "198.51.100.0/24", "2001:db8::/32"])
def test_an_address_can_be_copied_from_the_page(ip: str) -> None:
    """Real addresses and networks are not split, so that they can be pasted into a command."""
    assert str(nolink(ip)).replace(":<wbr>", ":") == ip
    assert ip in Page(render(digest_of(ip))[0]["email/body.html"]).text


# ---- own templates


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """Provide a folder for the admin's own templates."""
    (tmp_path / "email").mkdir()
    return tmp_path


def test_own_templates_replace_the_built_in_ones_one_by_one(own: Path) -> None:
    """An admin who wants another subject writes a subject."""
    (own / "email/subject.txt").write_text("{{ totals.bans | number }} on {{ host }}!\n")
    parts = render(digest_of("192.0.2.1"), own=own)[0]
    plain = render(digest_of("192.0.2.1"))[0]
    assert parts["email/subject.txt"] == "15 on web1!\n"
    assert {name for name in parts if parts[name] != plain[name]} == {"email/subject.txt"}


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("one\n{% if %}", "line 2"),
        ("{{ no_such_name }}", "no_such_name"),
        ("{{ totals.no_such_field }}", "no_such_field"),
        ("{{ host | no_such_filter }}", "no_such_filter"),
        ("{{ 1 / 0 }}", "ZeroDivisionError"),
        ("{{ ''.__class__.__mro__ }}", "__class__"),
        ("{{ jails.append(1) }}", "append"),
        ("{% for i in range(1000000000) %}{% endfor %}", "Range"),
        ("{{ 9 ** 9 ** 9 }}", "not allowed in templates"),
        ("{% include '../../etc/passwd' %}", "passwd"),
    ],
)  # fmt: skip
def test_a_broken_own_template_is_named_with_what_is_wrong(own: Path, source: str, words: str) -> None:
    """The admin reads which file, and which line or name; nothing reaches beyond the sandbox."""
    (own / "email/body.txt").write_text(source)
    renderer = Renderer(resources.folder("templates"), own)
    with pytest.raises(TemplateError, match=r"email/body\.txt") as caught:
        renderer.render(["email/body.txt"], document(digest_of("192.0.2.1")))
    assert words in str(caught.value)


def test_a_broken_own_template_costs_its_looks_and_is_named_in_the_digest(own: Path) -> None:
    """The digest goes out with the built-in template in its place, the other own ones stay, and all parts say so."""
    (own / "email/body.txt").write_text("{{ no_such_name }}")
    parts, _ = render(digest_of("192.0.2.1"), own=own)
    assert "192.0.2.1" in parts["email/body.txt"]
    assert "template email/body.txt: UndefinedError: 'no_such_name'" in " ".join(parts["email/body.txt"].split())
    assert "no_such_name" in parts["email/body.html"]
    assert parts["email/subject.txt"] == render(digest_of("192.0.2.1"), own=own)[0]["email/subject.txt"]


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_template_opens_with_the_names_of_its_variables(name: str) -> None:
    """The first comment of a template lists its variables, or names the template that does."""
    source = (TEMPLATES / name).read_text()
    comment = opening_comment(source)
    if "see" in comment or "as in" in comment:
        comment += opening_comment((TEMPLATES / "email/body.txt").read_text())
    environment = Environment(autoescape=True, extensions=["jinja2.ext.i18n"])
    for filter_name in re.findall(r"\|\s*(\w+)", source):
        environment.filters.setdefault(filter_name, str)
    parsed = environment.parse(source)
    set_here = {name.name for name in parsed.find_all(nodes.Name) if name.ctx != "load"}
    macros = {macro.name for macro in parsed.find_all(nodes.Macro)}
    imported = {name for each in parsed.find_all(nodes.FromImport) for name in each.names}  # blocks see these, too
    used = meta.find_undeclared_variables(parsed) - set_here - macros - imported - GLOBALS
    assert used or list(meta.find_referenced_templates(parsed))
    assert used - set(re.findall(r"\w+", comment)) == set()
    answer = {field.name for each in (Answer, Counts) for field in fields(each)} | {"asked_who", "store", "timezone"}
    known = (
        answer if name.startswith("terminal/") else {*document(digest_of("x")), *BESIDE, "language", "stored", "width"}
    )
    assert used <= known


def test_a_renderer_that_changes_keeps_the_rest(own: Path) -> None:
    """Language, screen, folders and what is broken are chosen one after the other, in any order."""
    (own / "email/body.txt").write_text("{{ language }} {{ width }} {{ 1234 | number }} {{ 'x' | paint('bad') }}")
    (own / "email/subject.txt").write_text("{{ no_such_name }}")
    layout = Layout(colour=True, width=60)
    renderer = Renderer(TEMPLATES).with_layout(layout).preferring(own).speaking("fr").without("email/subject.txt")
    assert renderer
    parts = renderer.render(["email/body.txt", "email/subject.txt"], document(digest_of("192.0.2.1")))
    assert parts["email/body.txt"] == "fr 60 1\u202f234 \x1b[1;31mx\x1b[0m"
    assert "web1" in parts["email/subject.txt"]
    again = Renderer(TEMPLATES, own, language="fr").speaking("en").with_layout(Layout())
    assert again.render(["email/body.txt"], document(digest_of("x")))["email/body.txt"] == "en 78 1,234 x"


@pytest.mark.parametrize("blocks", [True, False])
def test_a_bar_takes_what_its_line_leaves(own: Path, blocks: bool) -> None:
    """A template is written for the 78 columns of a mail; a terminal's difference goes to the bar."""
    (own / "bar.txt").write_text(
        "{{ 10 | bar(10, 38) }}|{{ 5 | bar(10, 38) }}|{{ 1 | bar(1000, 38) }}|{{ 0 | bar(1, 9) }}|"
    )
    nothing = {"notes": (), "undelivered": ()}
    for width, most in ((None, 38), (60, 20), (40, 1), (100, 60)):
        text = Renderer(own).with_layout(Layout(width=width, blocks=blocks)).render(["bar.txt"], nothing)["bar.txt"]
        assert set(text) == {"|", "█" if blocks else "#"}
        assert [len(bar) for bar in text.split("|")] == [most, max(1, most // 2), 1, 0, 0]


def opening_comment(source: str) -> str:
    """Return the Jinja comment with which a template begins."""
    match = re.match(r"\{#(.*?)#\}", source, re.DOTALL)
    assert match, "no comment at the beginning"
    return match[1]


def test_an_empty_digest_says_that_nothing_was_banned() -> None:
    """All templates can show a quiet day."""
    quiet = replace(digest_of("x"), totals=Totals(), jails=(), left_out=LeftOut(), verdict="quiet")
    assert "All quiet. No bans." in Page(render(quiet)[0]["email/body.html"]).text
    assert "All quiet. No bans." in render(quiet)[0]["email/body.txt"]
    assert "Nothing was banned" in render(quiet, PHONE)[0]["ntfy/message.txt"]
