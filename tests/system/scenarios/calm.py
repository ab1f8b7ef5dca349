"""Scenarios in which nobody has to do anything; crying wolf is what these would find."""

from dataclasses import replace

from tests.system.scenarios.book import CALM, NEEDS, scenario
from tests.system.scenarios.world import DAY, World

NEWS = (NEEDS, r"usually|unusual|more than")


@scenario(CALM, "no bans", never=(NEEDS,))
def a_quiet_day_of_a_quiet_server(world: World) -> None:
    """Nothing is ever banned here but now and then; `quiet = "send"`."""
    world.report = 'quiet = "send"'
    world.ban("198.51.100.7", ago=9 * DAY)
    world.now -= DAY
    world.send()
    world.now += DAY


@scenario(CALM, r"\b\d+ bans", never=(NEEDS, "silent", "first"))
def a_usual_day(world: World) -> None:
    """As the 35 before."""
    world.past()
    world.today()


@scenario(CALM, r"\b\d+ bans", "weekly", never=(NEEDS, "silent"), report="weekly")
def a_usual_week(world: World) -> None:
    """As the five before."""
    world.past()
    world.today()


@scenario(CALM, r"\b[\d,]+ bans", "monthly", never=(NEEDS, "silent"), report="monthly")
def a_usual_month(world: World) -> None:
    """As the four before."""
    world.past(days=125)
    world.today()


@scenario(CALM, "no bans to compare", r"\b\d+ bans")
def the_first_day_ever(world: World) -> None:
    """Installed this morning."""
    world.today()


@scenario(CALM, r"\b\d+ bans", r"usual", never=(NEEDS, "no bans to compare"))
def the_first_day_with_imported_history(world: World) -> None:
    """Installed this morning, after an import of fail2ban's logs."""
    world.plant(
        world.row(world.stranger(), jail, world.now - DAY * (1 + number / rate), history=True)
        for jail, rate in {"sshd": 60.0, "postfix-sasl": 25.0}.items()
        for number in range(int(30 * rate))
    )
    world.plant(
        world.row(world.stranger(), jail, world.now - DAY * number / rate - 60)
        for jail, rate in {"sshd": 60.0, "postfix-sasl": 25.0}.items()
        for number in range(int(rate))
    )


@scenario(CALM, never=(NEEDS, "silent", "rare"))
def a_rare_jail_has_nothing_to_tell(world: World) -> None:
    """A jail that bans every third day is no news when it does not."""
    world.plant(world.row(world.stranger(), "rare", world.now - day * DAY) for day in range(2, 36, 3))
    world.past()
    world.today()


@scenario(CALM, never=(NEEDS, r"root.{0,30}addresses"))
def everybody_tries_root(world: World) -> None:
    """As every day: sixty addresses try root."""
    world.past()
    world.today()


@scenario(CALM, r"\b\d+ bans", never=(NEEDS, r"started 1 time", r"5,\d\d\d"))
def fail2ban_restarted_with_5000_restored_bans(world: World) -> None:
    """Somebody restarts it: the jails stop and start; what they restore was reported when it was banned."""
    world.past()
    world.today()
    at = world.now - 7200
    world.plant(world.row("", jail, at, "stop") for jail in ("sshd", "dovecot", "postfix-sasl", "nginx-botsearch"))
    world.plant(world.row("", jail, at + 3, "start") for jail in ("sshd", "dovecot", "postfix-sasl", "nginx-botsearch"))
    world.plant(world.row(f"198.51.{n // 250}.{n % 250}", "sshd", at - 2 * DAY, history=True) for n in range(5000))


@scenario(CALM, r"\b\d+ bans", never=(NEEDS, "2106|1970|9999"))
def a_clock_that_was_wrong_for_a_moment(world: World) -> None:
    """Two bans of the year 2106 and of 1970."""
    world.past()
    world.today()
    world.plant([world.row("198.51.100.1", "sshd", 4.3e9), world.row("198.51.100.2", "sshd", 0.0)])


@scenario(CALM, r"\bnew\b|never seen", r"0 new|none of them new|all known", never=(NEEDS,))
def only_old_acquaintances(world: World) -> None:
    """Each address of today was banned before."""
    known = [world.stranger() for _ in range(30)]
    world.plant(world.row(ip, "sshd", world.now - DAY * day - 600) for day in range(1, 30) for ip in known)
    world.now -= DAY
    world.send()
    world.now += DAY
    world.plant(world.row(ip, "sshd", world.now - 600) for ip in known)


@scenario(CALM, r"\(30 new\)|30 (of them )?(are )?new", never=(NEEDS,))
def only_new_faces(world: World) -> None:
    """No address of today was banned before."""
    world.plant(
        world.row(world.stranger(), "sshd", world.now - DAY * day - 600) for day in range(1, 30) for _ in range(30)
    )
    world.now -= DAY
    world.send()
    world.now += DAY
    world.plant(world.row(world.stranger(), "sshd", world.now - 600) for _ in range(30))


@scenario(CALM, r"\b1 ban\b", "198.51.100.7|recidive", never=(NEEDS,), report="urgent")
def an_urgent_report_of_one_ban(world: World) -> None:
    """A report of one jail, sent every five minutes, has one ban."""
    world.report = 'jails = ["recidive"]'
    world.past()
    world.ban("198.51.100.7", "recidive", ago=60, bantime=-1)


@scenario(CALM, r"\b\d+ bans", never=(NEEDS, "down"))
def a_store_that_no_fail2ban_of_this_host_feeds(world: World) -> None:
    """Bans of other machines, recorded by a script; that no fail2ban runs here says nothing of them."""
    world.source = "record"
    world.host_context = replace(world.host_context, running=())
    world.past()
    world.usual(world.now - DAY, world.now - 2 * 3600)
