"""Our shell action, run by real fail2ban servers: what an attacker chose arrives as text, and is never run."""

import json
import time
from collections.abc import Iterator

import pytest

from f2b_digest import recorder
from tests.support.fail2ban_server import VERSIONS, Fail2ban

# What `sh`, fail2ban's tags, Python and the recorder's own command line could each mistake for theirs; a file "canary"
# in the server's folder tells.
HOSTILE_TEXTS = (
    "$(touch canary)",
    "`touch canary`",
    '"; touch canary; "',
    "'; touch canary; '",
    "a & touch canary & b | touch canary",
    "a > canary",
    "--store=canary",
    "--help",
    "-x",
    "*",
    "~ $HOME ${IFS} $0 $f2bV_matches",
    "back\\slash \\n \\0101 \\c",
    "%s %d %(name)s 100%",
    "<ip> <matches> <F-USER> <name>",
    "esc\x1b[2J\x07",
    "two  spaces\tand a tab",
    "!! #comment",
    "caf\xe9 \u202eright-to-left",
    "=a=b",
    "[x]{y}?",
)


@pytest.fixture(params=VERSIONS)
def server(request: pytest.FixtureRequest) -> Iterator[Fail2ban]:
    """Provide a server of each version, not started."""
    with Fail2ban(request.param) as fail2ban:
        yield fail2ban


@pytest.mark.slow
def test_hostile_ids_names_and_lines_arrive_verbatim_and_nothing_is_run(server: Fail2ban) -> None:
    """What is in the banned id, the user name and the matched lines is stored as it is, each as one value."""
    server.jail("web", server.shell_action(user="<F-USER>", lines="<matches>"), filter="id", maxretry="2")
    server.start()
    lines = {text: f'FAIL user="{text}" id="{text}"' for text in HOSTILE_TEXTS}
    at = server.log("web", *lines.values(), *lines.values())
    for text, line in lines.items():
        ban = server.ban_of(text)
        assert json.loads(ban["users"]) == [text]
        assert ban["matches"] == f"{at} {line}\n{at} {line}"
        assert (ban["jail"], ban["at"], ban["failures"], ban["bantime"], ban["source"]) == ("web", at, 2, 600, "shell")
    assert not (server.folder / "canary").exists()
    assert not [line for line in server.messages().splitlines() if "ERROR" in line]


@pytest.mark.slow
def test_plain_words_stay_one_value(server: Fail2ban) -> None:
    """Text without a special character, which fail2ban pastes into the command as it is, arrives as one value too."""
    failregex = r"^ (?:\S+ )*user <F-USER>.*</F-USER> from <F-ID>.*</F-ID>$"
    server.write("conf/filter.d/plain.conf", f"[Definition]\ndatepattern = {{^LN-BEG}}Epoch\nfailregex = {failregex}\n")
    server.jail("web", server.shell_action(user="<F-USER>", lines="<matches>"), filter="plain")
    server.start()
    at = server.log("web", "touch canary user touch canary from touch canary --jail=x")
    ban = server.ban_of("touch canary --jail=x")
    assert (ban["jail"], json.loads(ban["users"])) == ("web", ["touch canary"])
    assert ban["matches"] == f"{at} touch canary user touch canary from touch canary --jail=x"
    assert not (server.folder / "canary").exists()


@pytest.mark.slow
def test_a_line_that_no_shell_can_carry_costs_no_ban(server: Fail2ban) -> None:
    """Without the user and lines options, a NUL or 200 kB in the log line do not matter."""
    server.jail("web", server.shell_action())
    server.start()
    server.log("web", b'FAIL user="nul\0nul" from 192.0.2.1', b'FAIL user="%s" from 192.0.2.2' % (b"x" * 200_000))
    for address in ("192.0.2.1", "192.0.2.2"):
        ban = server.ban_of(address)
        assert (ban["users"], ban["matches"]) == (None, None)


@pytest.mark.slow
def test_an_empty_user_is_no_user(server: Fail2ban) -> None:
    """A ban by hand has no user and no lines, also where a jail asked for them."""
    server.jail("web", server.shell_action(user="<F-USER>", lines="<matches>"))
    server.start()
    server.client("set", "web", "banip", "2001:db8::7")
    ban = server.ban_of("2001:db8::7")
    assert (ban["failures"], ban["users"], ban["matches"]) == (0, None, None)


@pytest.mark.slow
def test_the_life_of_a_jail_is_recorded(server: Fail2ban) -> None:
    """Start, unban and stop are events; a restart records no ban twice, and stopping ends none."""
    server.jail("web", server.shell_action())
    server.start()
    server.client("set", "web", "banip", "192.0.2.1")
    server.client("set", "web", "banip", "192.0.2.2")
    server.client("set", "web", "unbanip", "192.0.2.1")
    server.restart()
    server.wait_until(lambda: "Restore Ban" in server.messages(), "a ban restored")
    server.stop()
    assert [event["ip"] for event in server.events()] == ["192.0.2.1", "192.0.2.2"]
    assert [event["ip"] for event in server.events("unban")] == ["192.0.2.1"]
    assert [len(server.events(kind, jail="web", ip="")) for kind in ("start", "stop")] == [2, 2]


@pytest.mark.slow
def test_a_reload_keeps_recording(server: Fail2ban) -> None:
    """A reloaded jail records on."""
    server.jail("web", server.shell_action())
    server.start()
    server.client("reload")
    server.client("set", "web", "banip", "192.0.2.1")
    assert server.ban_of("192.0.2.1")["source"] == "shell"


@pytest.mark.slow
def test_a_store_that_takes_nothing_sends_the_ban_to_the_spool_once(server: Fail2ban) -> None:
    """fail2ban would run a failing command twice; ours succeeds, in the spool, and says so in fail2ban's log."""
    server.jail("web", server.shell_action())
    server.start()
    server.client("set", "web", "banip", "192.0.2.1")
    server.store.write_bytes(b"no database " * 5000)
    server.client("set", "web", "banip", "192.0.2.2")
    assert recorder.spooled(str(server.store)) == 1
    server.store.unlink()
    assert recorder.take_in(str(server.store)) == (1, 0)
    assert [event["ip"] for event in server.events()] == ["192.0.2.2"]


@pytest.mark.slow
def test_a_growing_ban_time_ends_with_its_final_value(server: Fail2ban) -> None:
    """The final duration under bantime.increment comes as a separate event."""
    increment = {"bantime_increment": "true", "bantime_overalljails": "true", "bantime_multipliers": "1 2"}
    for jail in ("web", "mail"):
        server.jail(jail, server.shell_action(), bantime="5", **increment)
    server.start()
    first = server.log("web", 'FAIL user="root" from 192.0.2.1')
    server.wait_until(lambda: server.known_bans("web") == [(5, 1)], "the first ban in fail2ban's database")
    server.wait_until(lambda: time.time() >= first + 1)  # what is not later, fail2ban takes for the same ban
    server.log("mail", 'FAIL user="root" from 192.0.2.1')
    server.wait_until(lambda: server.events("prolong"), "the final ban time")
    [prolong] = server.events("prolong")
    assert (prolong["jail"], prolong["bantime"], prolong["bancount"]) == ("mail", 10, 2)
    [ban] = server.events(jail="mail")
    assert prolong["at"] == ban["at"]
