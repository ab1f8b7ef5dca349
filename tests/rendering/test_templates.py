"""What the built-in templates say: first whether anything is wrong, new or to be done, then the rest."""

import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from f2b_digest import delivery, resources
from f2b_digest.channels.email import Email
from f2b_digest.model.digest import Bar, Compared, Digest, LeftOut, When
from f2b_digest.model.document import document
from f2b_digest.model.facts import Fact, FirstDigest, OwnBanned, Verdict
from f2b_digest.model.message import Needs
from f2b_digest.rendering.renderer import Renderer
from tests import ROOT
from tests.support import samples
from tests.support.hostile import Page
from tests.support.samples import START

RENDERER = Renderer(resources.folder("templates"))
TEXT, HTML, SUBJECT, TITLE = "email/body.txt", "email/body.html", "email/subject.txt", "ntfy/title.txt"
PHONE, SMS, LOG, CHAT = "ntfy/message.txt", "free-mobile/sms.txt", "syslog/lines.txt", "shared/chat.txt"


def said(name: str, digest: Digest) -> str:
    """Return a rendered template; of a page, its text, in one line."""
    text = RENDERER.render([name], document(digest))[name]
    return " ".join(Page(text).text.split()) if name == HTML else text


def first_lines(digest: Digest, lines: int = 5) -> str:
    """Return the first lines of the mail's text that are not empty."""
    return "\n".join([line for line in said(TEXT, digest).splitlines() if line][:lines])


# ---- the first five lines and the subject


def test_what_needs_somebody_stands_in_the_subject_and_the_first_lines() -> None:
    """The wrongly banned address, the commands that unban it, and the silent jail; the fact first."""
    top = first_lines(samples.telling(), 8)
    assert top.startswith(
        "web1.example.org · daily · Thu 19 Nov 2026\n3 items need attention.\n! postfix-sasl banned 192.0.2.7"
    )
    assert (
        "    fail2ban-client set postfix-sasl unbanip 192.0.2.7\n"
        "    fail2ban-client set postfix-sasl addignoreip 192.0.2.7\n! dovecot has been stopped since 18 Nov 14:02"
    ) in top
    for name in (SUBJECT, TITLE, SMS):
        assert said(name, samples.telling()).strip().startswith("Your address 192.0.2.7 is banned (+2) – web1")


def test_a_day_without_trouble_says_so_and_gives_the_numbers_and_the_news() -> None:
    """Nobody has to read on to know that there is nothing to do."""
    top = first_lines(samples.telling_week(), 9)
    assert top.startswith(
        "web1.example.org · weekly · 13 Nov 2026 – 19 Nov 2026\n"
        "Nothing is broken. One attack stands out: 37 addresses.\n* Attack from 203.0.113.0/24 (AS64496 "
    )
    assert "412 bans: usually 175; 194 the week before" in said(TEXT, samples.telling_week())
    assert said(SUBJECT, samples.telling_week()) == "Attack from 203.0.113.0/24: 37 addresses – web1 weekly\n"


def test_a_usual_day_is_called_quiet_with_its_number() -> None:
    """Green, and what is usual beside it."""
    digest = replace(samples.telling(), verdict="quiet", facts=(), undelivered=())
    usual = replace(digest, compared=replace(digest.compared, usual=400.0))
    assert "All quiet. 412 bans, about as usual (400)." in first_lines(usual, 2)
    assert said(SUBJECT, usual).startswith("All quiet: 412 bans, about as usual (400) – web1")
    assert "All quiet. 412 bans, usually 175." in first_lines(digest, 2)
    beyond = replace(digest, verdict="stands_out")
    assert "Nothing is broken. 412 bans, usually 175." in first_lines(beyond, 2)


def test_a_quiet_day_says_that_nothing_was_banned_and_what_is_usual() -> None:
    """In every channel."""
    assert first_lines(samples.quiet(), 3).splitlines()[1:] == [
        "All quiet. No bans, usually 1.", "Bans: usually 1; 2 the day before."
    ]  # fmt: skip
    for name in (SUBJECT, TITLE, SMS):
        assert said(name, samples.quiet()).startswith("All quiet: no bans, usually 1 – web1")


def test_the_first_digest_says_that_it_compares_with_nothing() -> None:
    """And counts no address as new, for all are."""
    digest = replace(samples.telling(), verdict="quiet", facts=(FirstDigest(),), compared=Compared(new=97))
    assert "no bans to compare yet" in said(TEXT, digest)
    assert " new" not in said(TEXT, digest)
    assert "All quiet: 412 bans – web1" in said(SUBJECT, digest)


def test_a_flood_of_facts_is_counted_not_listed() -> None:
    """The rest of the digest stays in sight; each channel says how many more there are."""
    own = samples.every_fact()[0]
    assert isinstance(own, OwnBanned)
    digest = replace(samples.telling(), facts=tuple(replace(own, ip=f"192.0.2.{n}") for n in range(200)))
    for name in (TEXT, HTML, PHONE, CHAT):
        assert "and 193 more" in " ".join(said(name, digest).split())
    for name in (TEXT, HTML, CHAT):
        assert "200 items need attention" in said(name, digest)
    assert "(+199) – web1" in said(SUBJECT, digest)


def test_what_a_line_is_copied_from_holds_nothing_invisible() -> None:
    """A jail with a dot in its name: the line names it, also when it is copied from the page."""
    own = samples.every_fact()[1]
    assert isinstance(own, OwnBanned)
    line = "fail2ban-client set postfix.sasl unbanip 192.0.2.7"
    digest = replace(samples.telling(), facts=(replace(own, jail="postfix.sasl", unban=line),))
    page = RENDERER.render([HTML], document(digest))[HTML]
    assert line in Page(page).text
    assert not re.search(r"[\u200b-\u200f\u2060\ufeff\u00ad]|&#8203;|&ZeroWidth|&shy;", page)


# ---- each fact


@pytest.mark.parametrize("fact", samples.every_fact(), ids=lambda fact: fact.kind)
def test_each_fact_is_said_in_a_whole_sentence_everywhere(fact: Fact) -> None:
    """The same sentence in text, HTML, notification, chat and log, without missing values."""
    news = fact.kind in ("new_jail", "restart", "first", "late_bans")
    verdict: Verdict = "needs_attention" if fact.needs_you else "quiet" if news else "stands_out"
    digest = replace(samples.telling(), verdict=verdict, facts=(fact,), undelivered=())
    (line,) = re.findall(r"^daily: (?:needs attention|stands out|news): (.*)$", said(LOG, digest), re.MULTILINE)
    assert "None" not in line
    assert "%(" not in line
    assert "  " not in line
    assert line.endswith((".", "?", "refused"))
    for name in (TEXT, HTML, CHAT, *(() if news else (PHONE,))):  # a phone has news in short
        assert line in " ".join(said(name, digest).split())
    for name in ("jail", "ip", "user", "network", "near", "unban"):
        value = getattr(fact, name, None)
        assert value is None or value in " ".join(said(TEXT, digest).split())
    assert ("Needs attention. " in said(TEXT, digest)) == fact.needs_you
    assert ("Nothing is broken. " in said(TEXT, digest)) == (verdict == "stands_out")
    for name in (SUBJECT, SMS):
        assert "None" not in said(name, digest)
        assert ("All quiet: " in said(name, digest)) == news


# ---- the sections


@pytest.mark.parametrize("name", [TEXT, HTML])
def test_what_is_not_known_has_no_section(name: str) -> None:
    """A host without a database of addresses, a first digest: no empty heading, no zero that means unknown."""
    digest = samples.telling()
    jails = tuple(replace(jail, before=None, usual=None, samples=()) for jail in digest.jails)
    bare = Digest("daily", "web1", "UTC", digest.start, digest.end, digest.totals, jails)
    text = said(name, bare)
    for words in ("When", "Coordinated", "Accounts tried", "Origin", "Log lines", "Advice", "usual", "Usual", "new"):
        assert words in said(name, digest)
        assert words not in text


@pytest.mark.parametrize("name", [TEXT, HTML])
def test_accounts_that_can_log_in_stand_apart_and_are_not_left_out(name: str) -> None:
    """Also one that is not among the most tried; each name appears once."""
    digest = samples.telling()
    assert digest.users
    few = replace(digest.users, most=digest.users.most[:3])
    text = " ".join(said(name, replace(digest, facts=(), users=few)).split())
    assert "Accounts tried Can log in here: root 96, anna 22 Others: admin 60, postgres 31 and 37 more" in text


def test_an_address_has_one_line_that_says_why() -> None:
    """Since when it is known, until when it is banned, where, and whom it tried; the others are counted."""
    text = said(TEXT, samples.telling())
    (line,) = re.findall(r"^    198\.51\.100\.23 .*$", text, re.MULTILINE)
    assert " ".join(line.split()) == "198.51.100.23 9 banned until 20 Nov 23:04, postgres and 1 more, VN"
    (line,) = re.findall(r"^    203\.0\.113\.59 +14 .*$", text, re.MULTILINE)
    assert " ".join(line.split()) == "203.0.113.59 14 first seen 3 Nov, in 2 jails, root and 8 more, DE"


@pytest.mark.parametrize(
    ("left_out", "words"),
    [
        (LeftOut(addresses=23, bans=23, banned=0), "and 23 more, each banned once, none still banned"),
        (LeftOut(addresses=23, bans=30, banned=4), "and 23 more, 30 bans, 4 still banned"),
        (LeftOut(addresses=1, bans=1, banned=0), "and 1 more, banned once, no longer banned"),
        (LeftOut(addresses=230, bans=230), "and 230 more, each banned once"),
    ],
)
def test_what_is_left_out_of_a_jail_is_counted(left_out: LeftOut, words: str) -> None:
    """What was not counted is not mentioned."""
    first, *rest = samples.telling().jails
    digest = replace(samples.telling(), jails=(replace(first, left_out=left_out), *rest))
    for name in (TEXT, HTML):
        assert re.search(words + r"(?! *,)", " ".join(said(name, digest).split()))


def test_the_hours_stand_above_their_scale() -> None:
    """The highest block is where most bans were; an hour without one is blank."""
    hours = (0, 0, 0, 61, 0, 0, 4, *[0] * 17)
    bars = tuple(replace(bar, bans=bans) for bar, bans in zip(plain_hours(), hours, strict=True))
    lines = said(TEXT, replace(samples.telling(), when=When("hour", bars))).splitlines()
    place = lines.index("When: busiest hour 03:00, 61 bans")
    assert lines[place + 1].rstrip() == "  " + " " * 6 + "██" + " " * 4 + "▁▁"
    assert lines[place + 2] == "  00          06          12          18"


@pytest.mark.parametrize("name", [TEXT, HTML])
def test_a_day_of_which_a_part_is_told_is_marked(name: str) -> None:
    """A period from noon to noon: its first and last day are no drop."""
    noon = START + timedelta(hours=12)
    days = [START + timedelta(days=day) for day in range(4)]
    when = When("day", tuple(Bar(day, 5) for day in days))
    text = said(name, replace(samples.telling(), start=noon, end=noon + timedelta(days=3), when=when))
    marked = re.findall(r"((?:Thu|Fri|Sat|Sun) \d+)( \(part\))? *5\b", " ".join(text.split()))
    assert [bool(part) for _, part in marked] == [True, False, False, True]


def plain_hours() -> tuple[Bar, ...]:
    """Return the hours of the sample."""
    when = samples.telling().when
    assert when
    return when.bars


def test_each_hour_of_the_week_has_a_bar() -> None:
    """Seven rows of 24, in the text and on the page; the highest is named; an hour without a ban has none."""
    digest = samples.telling_week()
    assert digest.when
    page = RENDERER.render([HTML], document(digest))[HTML]
    (graphic,) = re.findall(r'aria-label="Bans by weekday:.*?</table>', page, re.DOTALL)
    assert graphic.count("padding:0 1px") == 168
    assert graphic.count('class="bar"') == sum(bans > 0 for row in digest.when.heat for bans in row)
    assert "Tallest bar: " in Page(page).text
    rows = re.findall(r"^  (?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)  ([ ▁▂▃▄▅▆▇█]{48}) +\d+$", said(TEXT, digest), re.MULTILINE)
    assert len(rows) == 7
    assert {"█", "▂", " "} <= set("".join(rows))


@pytest.mark.parametrize("name", [TEXT, HTML])
def test_an_advice_gives_the_numbers_and_the_line_to_copy(name: str) -> None:
    """In one piece: nothing invisible goes into a configuration."""
    text = said(name, replace(samples.telling(), advice=samples.every_advice()))
    for words in ("140", "bantime.increment = true", "fail2ban-client set recidive banip 203.0.113.0/24"):
        assert words in text


def test_what_all_templates_take_in_may_be_broken(tmp_path: Path) -> None:
    """A custom template for facts that fails is replaced by the built-in one, with a note."""
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared/facts.txt").write_text("{% macro subject() %}{{ 1 / 0 }}{% endmacro %}")
    renderer = Renderer(resources.folder("templates"), tmp_path)
    content, noted = delivery.fit(Needs(("email/subject.txt",)), samples.quiet(), renderer, lambda _: True)
    assert "All quiet: no bans" in content.parts["email/subject.txt"]
    assert "the built-in template was used" in noted.notes[0]


def test_a_link_to_the_archive_stands_at_the_end_of_a_mail() -> None:
    """In text and HTML, if the channel has one; no mail has a link otherwise."""
    settings = {"kind": "email", "from": "f2b@example.org", "to": ["admin@example.org"]}
    renderer = Renderer(resources.folder("templates"))
    for link in ("https://web1.example.org/digests/?a=1&b=2", None):
        channel = Email.model_validate(settings | ({"link": link} if link else {}))
        content, _ = delivery.fit(channel.needs, samples.telling(), renderer, lambda _: True)
        page, text = content.parts["email/body.html"], content.parts["email/body.txt"]
        assert (str(link) in text, "<a href" in page) == (bool(link), bool(link))
        assert ('href="https://web1.example.org/digests/?a=1&amp;b=2"' in page) == bool(link)


def test_a_template_of_the_same_name_extends_the_built_in_one(tmp_path: Path) -> None:
    """The example of docs/templates.md: three lines that leave a section out, and change no other."""
    page = (ROOT / "docs/templates.md").read_text()
    [example] = re.findall(r"```jinja\n(.*?)```", page, re.DOTALL)
    (tmp_path / "email").mkdir()
    (tmp_path / "email/body.html").write_text(example)
    ours, theirs = (
        renderer.render(["email/body.html"], document(samples.telling()))["email/body.html"]
        for renderer in (Renderer(resources.folder("templates")), Renderer(resources.folder("templates"), tmp_path))
    )
    assert "Advice" in ours
    assert "Advice" not in theirs
    assert "Accounts tried" in theirs
    assert len(theirs) > len(ours) / 2


def test_a_fleets_digest_keeps_the_budget_of_a_single_one() -> None:
    """Ninety lines with every section filled; of eight hosts with something to tell, six are listed."""
    body = "email/body.txt"
    text = Renderer(resources.folder("templates")).render([body], document(samples.fleet()))[body]
    lines = text.splitlines()
    assert len(lines) <= 90
    assert max(map(len, lines)) <= 80
    assert [line for line in lines if line.endswith(" ")] == []
    assert "    On web7: f2b-digest forward" in lines
    assert "  and 2 more with something to tell" in lines
    assert "; and 31 quiet hosts" in text
