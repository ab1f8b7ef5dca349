"""Scenarios about the period: nights in which the clocks change, whole days, several reports, other languages."""

from datetime import datetime

from tests.system.scenarios.book import CALM, NEEDS, scenario
from tests.system.scenarios.world import DAY, World


def at(text: str) -> float:
    """Return a UTC time as epoch seconds."""
    return datetime.fromisoformat(text).timestamp()


@scenario(CALM, r"\b25 Oct", never=(NEEDS,))
def the_night_with_an_hour_twice(world: World) -> None:
    """A day of Paris with 25 hours, sent by cron at each midnight."""
    world.top = 'host = "web1"\ntimezone = "Europe/Paris"\n'
    world.now = at("2026-10-24T22:00:00Z")
    world.usual(world.now - 30 * DAY, world.now)
    world.send()
    world.now = at("2026-10-25T23:00:00Z")
    world.usual(world.now - 25 * 3600, world.now)


@scenario(CALM, r"\b29 Mar", never=(NEEDS,))
def the_night_without_an_hour(world: World) -> None:
    """A day of Paris with 23 hours."""
    world.top = 'host = "web1"\ntimezone = "Europe/Paris"\n'
    world.now = at("2026-03-28T23:00:00Z")
    world.usual(world.now - 30 * DAY, world.now)
    world.send()
    world.now = at("2026-03-29T22:00:00Z")
    world.usual(world.now - 23 * 3600, world.now)


@scenario(CALM, r"\b25 Oct", never=(NEEDS,))
def a_calendar_day_of_25_hours(world: World) -> None:
    """The same as a calendar report, sent at seven in the morning."""
    world.top = 'host = "web1"\ntimezone = "Europe/Paris"\n'
    world.report = 'period = "calendar"'
    world.now = at("2026-10-25T05:00:00Z")
    world.usual(world.now - 30 * DAY, world.now)
    world.send()
    world.now = at("2026-10-26T06:00:00Z")
    world.usual(world.now - 25 * 3600, world.now)


@scenario(r"16 Nov 2026 – 18 Nov", never=("first",))
def three_days_in_one_after_the_machine_was_off(world: World) -> None:
    """A calendar report after two missed mornings: one digest of three whole days."""
    world.report = 'period = "calendar"'
    world.now = at("2026-11-16T07:00:00Z")
    world.usual(world.now - 30 * DAY, world.now)
    world.send()
    world.usual(world.now, at("2026-11-19T07:00:00Z"))
    world.now = at("2026-11-19T07:00:00Z")


@scenario(CALM, r"\b7\d\d bans|\b6\d\d bans|\b8\d\d bans", never=(NEEDS,), report="weekly")
def a_weekly_report_beside_a_daily_one(world: World) -> None:
    """The daily one has told it all; the weekly one tells the week."""
    world.past()
    start = world.now - world.period
    for day in range(7):
        world.now = start + (day + 1) * DAY
        world.usual(world.now - DAY, world.now)
        world.name = "daily"
        world.send()
        world.name = "weekly"


@scenario(r"Rien à signaler\.", r"\b\d+ bans", never=(r"(?i)action", r"(?i)quiet"))
def a_usual_day_in_french(world: World) -> None:
    """The same in the admin's language."""
    world.top += 'language = "fr"\n'
    world.past()
    world.today()


@scenario(r"Action requise\.", r"192\.0\.2\.77, une adresse de confiance", "unbanip", never=("attention",))
def a_friend_was_banned_in_french(world: World) -> None:
    """The line to type is the same in every language."""
    world.top += 'language = "fr"\nfriends = ["192.0.2.0/24"]\n'
    world.past()
    world.today()
    world.ban("192.0.2.77")


@scenario(CALM, never=(NEEDS,))
def a_language_that_nobody_speaks(world: World) -> None:
    """English, and the digest goes out."""
    world.top += 'language = "tlh"\n'
    world.past()
    world.today()
