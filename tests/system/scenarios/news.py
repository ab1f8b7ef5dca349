"""Scenarios with news that needs nobody at once, but must not drown."""

from dataclasses import replace

from f2b_digest.model.host_context import Geography, Place
from tests.system.scenarios.book import NEEDS, scenario
from tests.system.scenarios.world import DAY, World


@scenario(r"203\.0\.113\.0/24", r"\b37 addresses", never=(NEEDS,))
def a_botnet_over_a_24(world: World) -> None:
    """37 addresses of a /24, which is otherwise not seen."""
    world.past()
    world.today()
    world.plant(
        world.row(f"203.0.113.{n}", "sshd", world.now - 60 * n - turn, users=("root", "admin"))
        for n in range(1, 38)
        for turn in range(3)
    )


@scenario(r"2001:db8:bad::/48", r"\b20 addresses", never=(NEEDS,))
def a_botnet_over_a_48(world: World) -> None:
    """A provider's customer walks through his /48; nothing else is banned, all of it IPv6."""
    world.plant(world.row(f"2001:db8:{n:x}::1", "sshd", world.now - 3 * DAY - n) for n in range(1, 9))
    world.now -= DAY
    world.send()
    world.now += DAY
    world.plant(world.row(f"2001:db8:bad:{n:x}::1", "sshd", world.now - 60 * n) for n in range(20))


@scenario("AS64500", r"\b\d\d addresses", never=(NEEDS,))
def a_botnet_over_a_network_number(world: World) -> None:
    """40 addresses of one holder, each in another /24."""
    swarm = {f"45.{n}.7.9" for n in range(40)}
    places = {ip: Place("NL", 64500, "Example Hosting") for ip in swarm}
    world.host_context = replace(world.host_context, geography=Geography("planted", world.now, "none", places.get))
    world.past()
    world.today()
    world.plant(world.row(ip, "sshd", world.now - 60 * n) for n, ip in enumerate(sorted(swarm)))


@scenario("jsmith", r"\b500 addresses", never=(NEEDS,))
def one_user_from_500_addresses(world: World) -> None:
    """Somebody wants that account."""
    world.past()
    world.today()
    world.plant(world.row(world.stranger(), "sshd", world.now - 100 * n, users=("jsmith",)) for n in range(500))


@scenario("anna", r"\b2\d addresses", "a local account", never=(NEEDS,))
def a_user_of_this_host_from_many_addresses(world: World) -> None:
    """25 addresses try a name that exists here."""
    world.host_context = replace(world.host_context, users=frozenset(("root", "anna")))
    world.past()
    world.today()
    world.plant(world.row(world.stranger(), "dovecot", world.now - 100 * n, users=("anna",)) for n in range(25))


@scenario(r"\bpostfix-sasl\b", r"\b150 bans, usually 2\d", never=(NEEDS,))
def a_jail_has_six_times_its_bans(world: World) -> None:
    """postfix-sasl has 150 instead of 25."""
    world.past()
    world.today(without=("postfix-sasl",))
    world.plant(world.row(world.stranger(), "postfix-sasl", world.now - 500 * n) for n in range(150))


@scenario(r"\b2\d\d bans, usually 60", never=(NEEDS,))
def everything_doubles_and_more(world: World) -> None:
    """Each jail has three and a half times its bans."""
    world.past()
    world.today(times=3.5)


@scenario(r"\b[\d,]+ bans", r"usual", never=(NEEDS,))
def everything_falls_to_a_fifth(world: World) -> None:
    """The provider filters."""
    world.past()
    world.today(times=0.2)


@scenario("wordpress", r"first|new", never=(NEEDS,))
def a_new_jail(world: World) -> None:
    """It was enabled this morning."""
    world.past()
    world.today()
    world.plant(world.row(world.stranger(), "wordpress", world.now - 60 * n) for n in range(9))


@scenario(r"198\.51\.100\.66", "several|3 jails|jails", never=(NEEDS,))
def an_address_in_three_jails(world: World) -> None:
    """It tries everything."""
    world.past()
    world.today()
    for jail in ("sshd", "dovecot", "postfix-sasl"):
        world.ban("198.51.100.66", jail)


@scenario(r"\b1,000,\d\d\d bans", r"usual", never=(NEEDS,))
def a_flood_of_a_million(world: World) -> None:
    """1,000,000 bans of 200,000 addresses in one night."""
    world.past()
    world.today()
    world.plant(
        world.row(f"45.{n % 200000 >> 16}.{n >> 8 & 255}.{n & 255}", "sshd", world.now - n * 0.08, users=())
        for n in range(1_000_000)
    )


@scenario("usual|first|new", r"<b>|\\x1b|evil", never=(NEEDS, "\x1b", "\u202e"))
def hostile_text(world: World) -> None:
    """A jail's name, ids and user names are written by an attacker."""
    world.past()
    world.today()
    hostile = "<b>evil\x1b[31m\u202e\r\nBcc: x@example.org"
    world.plant(world.row(f"{hostile}{n}", hostile, world.now - 60 * n, users=(hostile,)) for n in range(9))


@scenario(r"203\.0\.113\.0/24", r"\b12 addresses", "(?i)root", never=(NEEDS,), report="weekly")
def a_slow_walk_up_a_24(world: World) -> None:
    """Two addresses of a /24 each day, over a week."""
    world.past()
    world.today()
    world.plant(world.row(f"203.0.113.{10 * n}", "sshd", world.now - n * DAY / 2) for n in range(1, 13))
