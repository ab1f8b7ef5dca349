"""What the built-in templates say: first whether anything is wrong, new or to be done, then the rest."""

import re
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from f2b_digest import delivery, resources
from f2b_digest.model.digest import Bar, Compared, Digest, When
from f2b_digest.model.document import document
from f2b_digest.model.facts import Fact, FirstDigest, OwnBanned
from f2b_digest.model.message import Needs
from f2b_digest.rendering.renderer import Renderer
from tests.support import samples
from tests.support.hostile import Page

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
    """Who is banned wrongly, the command that ends it, and the jail that stands still."""
    top = first_lines(samples.telling())
    assert top.startswith("3 things need you:\n! postfix-sasl banned 192.0.2.7")
    assert "    fail2ban-client set postfix-sasl unbanip 192.0.2.7\n! dovecot is stopped" in top
    for name in (SUBJECT, TITLE, SMS):
        assert "needs you: 192.0.2.7 of yours is banned and 2 more; 412 bans" in said(name, samples.telling())


def test_a_day_without_trouble_says_so_and_gives_the_numbers_and_the_news() -> None:
    """Nobody has to read on to know that there is nothing to do."""
    top = first_lines(samples.telling_week())
    assert top.startswith(
        "Nothing needs you.\n412 bans, 97 addresses (60 new), 4 jails, 2,410 failures in 1 week; 194 "
    )
    assert "\n* sshd banned far more than usual: 300, usual 140" in top
    assert said(SUBJECT, samples.telling_week()).startswith(
        "[web1.example.org] 412 bans, far more than usual in sshd ("
    )


def test_a_quiet_day_says_that_nothing_was_banned_and_what_is_usual() -> None:
    """In every channel."""
    assert first_lines(samples.quiet(), 2) == (
        "Nothing needs you.\nNothing was banned in 24 h; 2 the period before, 1 usual"
    )
    for name in (HTML, PHONE, CHAT):
        assert "Nothing needs you. Nothing was banned in 24 h" in " ".join(said(name, samples.quiet()).split())
    for name in (SUBJECT, TITLE, SMS):
        assert "nothing was banned" in said(name, samples.quiet())


def test_the_first_digest_says_that_it_compares_with_nothing() -> None:
    """And counts no address as new, for all are."""
    digest = replace(samples.telling(), facts=(FirstDigest(),), compared=Compared(new=97))
    assert "nothing to compare with yet" in first_lines(digest)
    assert "new)" not in said(TEXT, digest)
    assert "412 bans from 97 addresses" in said(SUBJECT, digest)


def test_a_flood_of_facts_is_counted_not_listed() -> None:
    """The rest of the digest stays in sight; each channel says how many more there are."""
    own = samples.every_fact()[0]
    assert isinstance(own, OwnBanned)
    digest = replace(samples.telling(), facts=tuple(replace(own, ip=f"192.0.2.{n}") for n in range(200)))
    for name, more in ((TEXT, 194), (HTML, 194), (PHONE, 196), (CHAT, 196)):
        assert "200 things need you:" in said(name, digest)
        assert f"and {more} more" in said(name, digest)
    assert "and 199 more; 412 bans" in said(SUBJECT, digest)


@pytest.mark.parametrize(("day", "hours"), [(24, 25), (25, 24)])
def test_the_night_of_the_clock_change_has_its_hour(day: int, hours: int) -> None:
    """The last Sunday of October has 25 hours in Paris."""
    zone = ZoneInfo("Europe/Paris")
    start, end = datetime(2026, 10, day + 1, tzinfo=zone), datetime(2026, 10, day + 2, tzinfo=zone)
    assert f"failures in {hours} h;" in said(TEXT, replace(samples.telling(), start=start, end=end))


# ---- each fact


@pytest.mark.parametrize("fact", samples.every_fact(), ids=lambda fact: fact.kind)
def test_each_fact_is_said_in_a_whole_sentence_everywhere(fact: Fact) -> None:
    """The same words in the text, the page, the phone, the chat and the log; and no value that is not there."""
    digest = replace(samples.telling(), facts=(fact,), undelivered=())
    (line,) = re.findall(r"^daily: (?:needs you|news): (.*)$", said(LOG, digest), re.MULTILINE)
    assert "None" not in line
    assert "%" not in line
    assert "  " not in line
    assert line.endswith((".", "?", "refused"))
    for name in (TEXT, HTML, PHONE, CHAT):
        assert line in " ".join(said(name, digest).replace("\u200b", "").split())  # keeps a name from being a link
    for name in ("jail", "ip", "user", "network", "near", "unban"):
        value = getattr(fact, name, None)
        assert value is None or value in " ".join(said(TEXT, digest).split())
    assert ("Nothing needs you." not in said(TEXT, digest)) == fact.needs_you
    for name in (SUBJECT, SMS):
        assert "None" not in said(name, digest)
        assert ("needs you: " in said(name, digest)) == fact.needs_you


# ---- the sections


@pytest.mark.parametrize("name", [TEXT, HTML])
def test_what_is_not_known_has_no_section(name: str) -> None:
    """A host without a database of addresses, a first digest: no empty heading, no zero that means unknown."""
    digest = samples.telling()
    jails = tuple(replace(jail, before=None, usual=None, samples=()) for jail in digest.jails)
    bare = Digest("daily", "web1", "UTC", digest.start, digest.end, digest.totals, jails)
    text = said(name, bare)
    for words in ("When", "Campaigns", "Who they tried", "In several", "registered", "Advice", "usual", "Usual", "new"):
        assert words in said(name, digest)
        assert words not in text


@pytest.mark.parametrize("name", [TEXT, HTML])
def test_a_user_of_this_host_is_marked_and_not_left_out(name: str) -> None:
    """Also one who is not among the most tried."""
    digest = samples.telling()
    assert digest.users
    few = replace(digest.users, most=digest.users.most[:3])
    text = " ".join(said(name, replace(digest, users=few)).split())
    assert re.search(r"root [^a-z]*(96 bans 48 addresses )?\(exists here\)", text)
    assert re.search(r"anna [^a-z]*(22 bans 14 addresses )?\(exists here\)", text)
    assert text.count("(exists here)") == 2


def test_the_hours_stand_above_their_scale() -> None:
    """The highest block is where most bans were; an hour without one is blank."""
    hours = (0, 0, 0, 61, 0, 0, 4, *[0] * 17)
    bars = tuple(replace(bar, bans=bans) for bar, bans in zip(plain_hours(), hours, strict=True))
    lines = said(TEXT, replace(samples.telling(), when=When("hour", bars))).splitlines()
    place = lines.index("When")
    assert lines[place + 1].rstrip() == "  " + " " * 6 + "██" + " " * 4 + "▁▁"
    assert lines[place + 2] == "  00          06          12          18"
    assert lines[place + 3] == "  Most from 03:00: 61 bans"


def plain_hours() -> tuple[Bar, ...]:
    """Return the hours of the sample."""
    when = samples.telling().when
    assert when
    return when.bars


def test_each_hour_of_the_week_has_a_cell() -> None:
    """Seven rows of 24, in the text and on the page, darker where there were more."""
    page = RENDERER.render([HTML], document(samples.telling_week()))[HTML]
    assert len(re.findall(r'<td class="h[0-4]"', page)) == 168
    rows = re.findall(r"^  (?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)  ([ ░▒▓█]{48}) +\d+$", said(TEXT, samples.telling_week()),
                      re.MULTILINE)  # fmt: skip
    assert len(rows) == 7
    assert {"█", "░", " "} <= set("".join(rows))


@pytest.mark.parametrize("name", [TEXT, HTML])
def test_an_advice_gives_the_numbers_and_the_line_to_copy(name: str) -> None:
    """In one piece: nothing invisible goes into a configuration."""
    text = said(name, replace(samples.telling(), advice=samples.every_advice()))
    for words in ("140", "bantime.increment = true", "fail2ban-client set recidive banip 203.0.113.0/24"):
        assert words in text


def test_what_all_templates_take_in_may_be_broken(tmp_path: Path) -> None:
    """The admin's own words of the facts cannot be rendered: the digest goes out with ours, and says so."""
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared/facts.txt").write_text("{% macro headline() %}{{ 1 / 0 }}{% endmacro %}")
    renderer = Renderer(resources.folder("templates"), tmp_path)
    content, noted = delivery.fit(Needs(("email/subject.txt",)), samples.quiet(), renderer, lambda _: True)
    assert "nothing was banned" in content.parts["email/subject.txt"]
    assert "the built-in template was used" in noted.notes[0]
