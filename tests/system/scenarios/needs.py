"""Scenarios in which somebody has to do something."""

from dataclasses import replace

from f2b_digest.host import proxies
from f2b_digest.model.host_context import Login
from f2b_digest.reconcile import Known
from f2b_digest.store import Store
from tests.system.scenarios.book import CALM, NEEDS, scenario
from tests.system.scenarios.world import DAY, USUAL, World, network

OTHERS = ("postfix-sasl", "nginx-botsearch", "dovecot")


@scenario(NEEDS, r"192\.0\.2\.10\b", r"fail2ban-client set sshd unbanip 192\.0\.2\.10")
def an_address_of_this_host_was_banned(world: World) -> None:
    """A service of this host talks to another by its public address."""
    world.host_context = replace(world.host_context, own=(network("192.0.2.10"),))
    world.past()
    world.today()
    world.ban("192.0.2.10")


@scenario(NEEDS, r"192\.168\.7\.23\b", r"fail2ban-client set dovecot unbanip 192\.168\.7\.23")
def a_laptop_of_the_own_network_was_banned(world: World) -> None:
    """Somebody forgot the new password in the mail program."""
    world.host_context = replace(world.host_context, own=(network("192.168.7.0/24"),))
    world.past()
    world.today()
    world.ban("192.168.7.23", "dovecot", users=("anna",))


@scenario(NEEDS, r"203\.0\.113\.77\b", "fail2ban-client set sshd unbanip 203.0.113.77")
def a_friend_was_banned(world: World) -> None:
    """The office's network is configured as a friend."""
    world.top += 'friends = ["203.0.113.0/24"]\n'
    world.past()
    world.today()
    world.ban("203.0.113.77")


@scenario(NEEDS, "2001:db8:7::42", "unbanip 2001:db8:7::42")
def a_friend_was_banned_by_ipv6(world: World) -> None:
    """The same in the other protocol."""
    world.top += 'friends = ["2001:db8:7::/48"]\n'
    world.past()
    world.today()
    world.ban("2001:db8:7::42")


@scenario(NEEDS, r"198\.51\.100\.9\b", "unbanip 198.51.100.9")
def a_neighbour_of_ignoreip_was_banned(world: World) -> None:
    """The office got a new address from its provider, beside the one in ignoreip."""
    world.host_context = replace(world.host_context, ignored=(network("198.51.100.7"),))
    world.past()
    world.today()
    world.ban("198.51.100.9")


@scenario(NEEDS, r"198\.51\.100\.30\b", "anna", "unbanip 198.51.100.30")
def somebody_who_logged_in_was_banned(world: World) -> None:
    """An address with a successful login in the period: a colleague, or a password that was guessed."""
    world.host_context = replace(world.host_context, logins=(Login("198.51.100.30", "anna", world.now - 7200),))
    world.past()
    world.today()
    world.ban("198.51.100.30", users=("anna",))


@scenario(NEEDS, r"192\.0\.2\.10\b", r"set 'sshd; rm -rf ~' unbanip 192\.0\.2\.10")
def an_own_address_in_a_jail_with_a_hostile_name(world: World) -> None:
    """The line to type is quoted for the shell."""
    world.host_context = replace(world.host_context, own=(network("192.0.2.10"),))
    world.past()
    world.today()
    world.ban("192.0.2.10", "sshd; rm -rf ~")


@scenario(NEEDS, r"192\.0\.2\.10\b")
def an_own_address_in_the_middle_of_a_flood(world: World) -> None:
    """The one ban that matters among 20,000."""
    world.host_context = replace(world.host_context, own=(network("192.0.2.10"),))
    world.past()
    world.today()
    world.plant(world.row(world.stranger(), "sshd", world.now - n) for n in range(20000))
    world.ban("192.0.2.10")


@scenario(NEEDS, r"\bsshd\b", "banned nobody")
def a_jail_is_dead(world: World) -> None:
    """The log moved, and sshd's jail reads an empty file."""
    world.past()
    world.today(without=("sshd",))


@scenario(NEEDS, r"\bsshd\b", "banned nobody", report="weekly")
def a_jail_was_dead_for_a_week(world: World) -> None:
    """The same, in the weekly report."""
    world.past()
    world.today(without=("sshd",))


def dead(world: World, days: int) -> None:
    """Live through this many days without sshd, after usual weeks."""
    world.past()
    for _ in range(days):
        world.today(without=("sshd",))
        world.send()
        world.now += DAY


@scenario(NEEDS, r"\bsshd\b has banned nobody since 18 Nov", r"usually [56]\d a day", r'known_quiet = \["sshd"\]')
def a_jail_is_dead_for_a_fourth_of_its_weeks(world: World) -> None:
    """Told on three days, and again after a week; what is usual does not sink."""
    dead(world, 9)
    world.today(without=("sshd",))


@scenario(CALM, r"\b\d\d bans", never=(NEEDS, "sshd"))
def a_jail_is_dead_for_five_days(world: World) -> None:
    """Told on three days, and not on the others of its week."""
    dead(world, 5)
    world.today(without=("sshd",))


@scenario(CALM, r"\b1\d\d bans", r"usual(ly)? \(?1[01]\d|usual \(1[01]\d", never=(NEEDS, "usually 0", "far"))
def a_jail_is_back_after_weeks(world: World) -> None:
    """The weeks of its outage are not what is usual."""
    dead(world, 20)
    world.today()
    world.send()
    world.now += DAY
    world.today()


@scenario(CALM, never=(NEEDS, "sshd"))
def a_jail_is_known_to_be_quiet(world: World) -> None:
    """The admin copied the line of the digest."""
    world.top += 'known_quiet = ["sshd"]\n'
    world.past()
    world.today(without=("sshd",))


@scenario(NEEDS, r"\bdovecot\b", "stopped")
def a_jail_was_stopped(world: World) -> None:
    """Somebody stopped it for a test, and went home."""
    world.past()
    world.today(without=("dovecot",))
    world.ban("198.51.100.200", "dovecot", ago=9 * 3600)
    world.plant([world.row("", "dovecot", world.now - 8 * 3600, "stop")])


@scenario(NEEDS, "fail2ban", r"not run|down|does not answer|stopped")
def fail2ban_is_dead(world: World) -> None:
    """Its server does not answer."""
    world.past()
    world.usual(world.now - DAY, world.now - 2 * 3600)
    world.host_context = replace(world.host_context, running=())


@scenario(NEEDS, "fail2ban", r"not run|down|silent|stopped")
def fail2ban_is_dead_and_nobody_may_ask_it(world: World) -> None:
    """The sender has no access to its socket; all jails are silent since yesterday."""
    world.report = 'quiet = "send"'
    world.past()


@scenario(NEEDS, "fail2ban", "down")
def fail2ban_is_dead_and_a_quiet_report_says_so_all_the_same(world: World) -> None:
    """Nothing was banned, and the report skips such days: this one must not be skipped."""
    world.past()


@scenario(NEEDS, r"203\.0\.113\.77\b", "unbanip")
def a_friend_does_not_wait_for_more_bans(world: World) -> None:
    """The report waits for fifty bans; this one cannot."""
    world.top += 'friends = ["203.0.113.0/24"]\n'
    world.past()
    world.report = "min_bans = 50"
    world.ban("203.0.113.77")


@scenario(NEEDS, r"\b3\b", r"missing|missed|not recorded|unrecorded")
def bans_were_missing(world: World) -> None:
    """fail2ban's own database knew three bans that were not recorded."""
    world.past()
    world.today()
    with_ids = range(len_of(world) - 2, len_of(world) + 1)
    world.known = Known(dict.fromkeys(with_ids, "sshd"), (), frozenset(with_ids))


@scenario(NEEDS, "dovecot", r"without")
def a_jail_bans_without_our_action(world: World) -> None:
    """It was enabled last week, and nobody ran setup."""
    world.past()
    world.today()
    world.known = Known({}, (), frozenset(), ("dovecot",))


@scenario(NEEDS, "retried", "(?i)no such|refused|phone|connect")
def a_digest_was_not_delivered(world: World) -> None:
    """Yesterday's digest did not reach the phone: nothing listens there."""
    world.others = '[channels.phone]\nkind = "ntfy"\nurl = "http://127.0.0.1:9"\ntopic = "t"\n'
    world.channels = ("box", "phone")
    world.past()
    world.today()


@scenario(NEEDS, r"late|waited", r"3 days|Nov")
def the_report_is_late(world: World) -> None:
    """Cron did not run for three days."""
    world.past()
    world.usual(world.now - 2 * DAY, world.now)
    world.now += DAY
    world.usual(world.now - DAY, world.now)


@scenario(NEEDS, r"\b4 items", r"\bsshd\b", r"192\.0\.2\.10\b", r"203\.0\.113\.77\b")
def everything_at_once(world: World) -> None:
    """Two own addresses, a dead jail and missing bans."""
    world.top += 'friends = ["203.0.113.0/24"]\n'
    world.host_context = replace(world.host_context, own=(network("192.0.2.10"),))
    world.past()
    world.today(without=("sshd",))
    world.ban("192.0.2.10", "dovecot")
    world.ban("203.0.113.77", "dovecot")
    newest = len_of(world)
    world.known = Known({newest: "dovecot"}, (), frozenset([newest]))


@scenario(
    NEEDS,
    r"\bnginx-botsearch is banning your CDN Cloudflare: 6 addresses",
    "CF-Connecting-IP",
    "ignoreip = .*162.158.0.0/15",
)
def a_jail_bans_the_cdn(world: World) -> None:
    """The web server does not restore its visitors' addresses."""
    world.host_context = replace(world.host_context, proxies=tuple(proxies.cdn()))
    world.past()
    world.today()
    for n in range(6):
        world.ban(f"162.158.{n}.9", "nginx-botsearch", ago=600 * n)


@scenario(NEEDS, r"\bnginx-botsearch is banning your proxy: 1 address", "ignoreip = .*198.51.100.0/24")
def a_jail_bans_a_proxy_that_the_configuration_names(world: World) -> None:
    """One ban of it is enough."""
    world.host_context = replace(world.host_context, proxies=tuple(proxies.configured([network("198.51.100.0/24")])))
    world.past()
    world.today()
    world.ban("198.51.100.9", "nginx-botsearch")


@scenario(
    "Nothing is broken", r"203\.0\.113\.77\b", r"The ban is over: (19 Nov )?03:00 to 03:10", never=(NEEDS, "unbanip")
)
def a_friends_ban_is_over_already(world: World) -> None:
    """It lasted ten minutes in the night."""
    world.top += 'friends = ["203.0.113.0/24"]\n'
    world.past()
    world.today()
    world.ban("203.0.113.77", ago=9 * 3600, bantime=600)


def len_of(world: World) -> int:
    """Return the id of the newest event."""
    with Store(world.store, read_only=True) as store:
        return store.last_event()


assert set(OTHERS) < set(USUAL)
