"""What `find` says: each question's answer equals one that is computed naively from the events."""

import json
import os
import random
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from f2b_digest import inquiry
from f2b_digest.cli import find
from f2b_digest.config import Configuration, Report
from f2b_digest.model.host_context import Geography, Place
from f2b_digest.model.inquiry import Inquiry
from f2b_digest.rendering import i18n
from f2b_digest.store import Store, asked
from tests.support.fail2ban_server import Fail2ban
from tests.support.program import Command, let_everybody_enter, run
from tests.support.store_making import NOON, Row, event, fill, query

DAY = 86400.0
IPS = (
    *(f"203.0.113.{n}" for n in (0, 1, 5, 12, 100, 255)), "203.0.114.1", "20.0.113.1", "203.0.11.3", "192.0.2.7",
    "2001:db8::1", "2001:db8:0:1::1", "2001:db80::1", "2001:db8:1::7", "::1", "64:ff9b::203.0.113.5", "no address",
    "203.0.113.0/24", "2001:db8::/32", "203.0.113.0/28",
)  # fmt: skip
JAILS, NAMES = ("sshd", "web", "recidive"), ("anna", "root", "Anna", "a_na", "ann", 'an"na', "ж", "sshd")
AT, JAIL, IP, USERS = 4, 2, 3, 9


def rows(seed: int, count: int = 400) -> list[Row]:
    """Return bans over forty days, at times of their own."""
    chance = random.Random(seed)
    return [
        event(
            jail=chance.choice(JAILS), ip=chance.choice(IPS), at=NOON - chance.randint(0, 40 * 86400) - n / 1000,
            failures=chance.choice((None, 3, 7)), bantime=chance.choice((600, 86400 * 60, -1)),
            users=chance.sample(NAMES, chance.randint(0, 3)), history=chance.random() < 0.2,
        )
        for n in range(count)
    ]  # fmt: skip


def within(network: str) -> Callable[[Row], bool]:
    """Return whether an event's id is in a network."""

    def holds(row: Row) -> bool:
        try:
            banned = ip_network(row[IP])
        except ValueError:
            return False
        whole = ip_network(network)
        return banned.version == whole.version and banned.subnet_of(whole)  # type: ignore[arg-type]

    return holds


def covers(ip: str) -> Callable[[Row], bool]:
    """Return whether an event's id is an address, or a network that it is in."""

    def holds(row: Row) -> bool:
        try:
            banned = ip_network(row[IP])
        except ValueError:
            return bool(row[IP] == ip)
        return banned.version == ip_address(ip).version and ip_address(ip) in banned

    return holds


def tried(name: str) -> Callable[[Row], bool]:
    """Return whether an event's ban tried a name."""
    return lambda row: name in json.loads(row[USERS] or "[]")


QUESTIONS: list[tuple[str, str, Callable[[Row], bool]]] = [
    *((ip, "address", covers(ip)) for ip in ("203.0.113.5", "203.0.113.1", "2001:db8::1", "::1", "192.0.2.7")),
    ("::ffff:203.0.113.5", "address", covers("203.0.113.5")),
    ("no address", "address", lambda row: row[IP] == "no address"),
    *(
        (network, "network", within(network))
        for network in (
            "203.0.113.0/24", "203.0.113.0/28", "203.0.112.0/22", "203.0.0.0/16", "203.0.0.0/13", "0.0.0.0/0",
            "203.0.113.128/25", "2001:db8::/32", "2001:db8::/48", "2001:db8:0:1::/64", "2000::/3", "::/0", "::/64",
        )
    ),
    *((name, "user", tried(name)) for name in NAMES if name != "sshd"),
    ("web", "jail", lambda row: row[JAIL] == "web"),
]  # fmt: skip


def ask(f2b_digest: Command, config: Path, *words: str) -> list[dict[str, Any]]:
    """Return the answers as a program reads them."""
    ended = f2b_digest("--config", config, "find", *words, "--json", "-n", "100")
    assert (ended.status, ended.err) == (0, "")
    found: list[dict[str, Any]] = json.loads(ended.out)
    return found


@pytest.fixture(scope="module")
def known() -> list[Row]:
    """Provide the events of the questions."""
    return rows(7)


@pytest.mark.parametrize(("what", "kind", "holds"), QUESTIONS, ids=[f"{kind}-{what}" for what, kind, _ in QUESTIONS])
def test_an_answer_is_what_a_naive_count_finds(
    f2b_digest: Command, config: Path, path: Path, known: list[Row], what: str, kind: str, holds: Callable[[Row], bool]
) -> None:
    """Bans, addresses, failures, first and last, jails and names, of the whole store and of a time in some jails."""
    fill(path, known)
    for more, limits in (
        ((), lambda row: True),
        (("--since", "2026-11-01", "--until", "2026-11-10", "--jail", "s*"),
         lambda row: NOON - 18.5 * DAY <= row[AT] < NOON - 9.5 * DAY and row[JAIL] == "sshd"),
    ):  # fmt: skip
        wanted = [row for row in known if holds(row) and limits(row)]
        (answer,) = [each for each in ask(f2b_digest, config, what, *more) if each["inquiry"]["kind"] == kind]
        counts = answer["counts"]
        assert counts["totals"]["bans"] == len(wanted)
        if not wanted:
            continue
        assert counts["totals"]["addresses"] == len({row[IP] for row in wanted})
        failures = [row[6] for row in wanted if row[6] is not None]
        assert counts["totals"]["failures"] == (sum(failures) if failures else None)
        assert {jail["name"]: jail["bans"] for jail in counts["jails"]} == Counter(row[JAIL] for row in wanted)
        by_id = Counter((row[JAIL], row[IP]) for row in wanted)
        assert {(j["name"], a["ip"]): a["bans"] for j in counts["jails"] for a in j["worst"]} == by_id
        names = Counter(name for row in wanted for name in set(json.loads(row[USERS] or "[]")))
        assert {user["name"]: user["bans"] for user in (counts["users"] or {"most": []})["most"]} == names
        times = [int(row[AT]) for row in wanted]
        assert [int(_epoch(counts["start"])), int(_epoch(answer["last"]))] == [min(times), max(times)]
        assert answer["history"] == sum(row[12] for row in wanted)


def _epoch(text: str) -> float:

    return datetime.fromisoformat(text).timestamp()


def test_a_name_is_found_where_lists_are_too_many_to_be_gone_through(
    f2b_digest: Command, config: Path, path: Path, known: list[Row], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other way to the same lists."""
    fill(path, known)
    few = ask(f2b_digest, config, "anna")
    monkeypatch.setattr(asked, "MOST_LISTS", 2)
    assert ask(f2b_digest, config, "anna") == few


def test_a_word_is_all_that_it_may_be(f2b_digest: Command, config: Path, path: Path) -> None:
    """A jail, an id and a name may be the same word; each that there is a ban of is answered."""
    fill(path, [event(users=["sshd"]), event(jail="web", ip="sshd")])
    assert [each["inquiry"]["kind"] for each in ask(f2b_digest, config, "sshd")] == ["jail", "address", "user"]
    assert [each["inquiry"]["kind"] for each in ask(f2b_digest, config, "web", "nobody")] == ["jail", "user"]


def test_what_holds_now_is_by_the_final_times(f2b_digest: Command, config: Path, path: Path) -> None:
    """Ended and unbanned bans do not hold, prolonged and permanent ones do; it says who says so."""
    fill(path, [
        event(ip="192.0.2.1", bantime=600), event(ip="192.0.2.2", bantime=600),
        event("prolong", ip="192.0.2.2", bantime=86400), event(ip="192.0.2.3", bantime=-1),
        event(ip="192.0.2.4", bantime=86400, recorded_at=NOON),
        event("unban", ip="192.0.2.4", recorded_at=NOON + 60),
        event(ip="192.0.2.5", bantime=86400, recorded_at=NOON),
    ])  # fmt: skip
    (answer,) = ask(f2b_digest, config, "192.0.2.0/24")
    assert [each["ip"] for each in answer["standing"]] == ["192.0.2.3", "192.0.2.2", "192.0.2.5"]
    assert answer["asked"] == "store"
    assert answer["unban"] == [f"fail2ban-client set sshd unbanip 192.0.2.{n}" for n in (3, 2, 5)]
    text = f2b_digest("--config", config, "find", "192.0.2.3").out
    assert "BANNED NOW in sshd, permanently" in text
    assert "fail2ban was not asked" in text
    assert "not banned now" in f2b_digest("--config", config, "find", "192.0.2.1").out


def test_it_says_which_digests_told_it_and_to_whom(f2b_digest: Command, config: Path, path: Path) -> None:
    """By the digests' ranges; what no digest told yet waits, and history is told by none."""
    fill(path, [event(ip="192.0.2.1"), event(ip="192.0.2.2")])
    assert f2b_digest("--config", config, "send").status == 0
    fill(path, [event(ip="192.0.2.3"), event(ip="192.0.2.1", at=NOON + 1), event(ip="192.0.2.4", history=True)])
    (first,) = ask(f2b_digest, config, "192.0.2.1")
    assert [(told["digest"], told["report"], told["bans"]) for told in first["told"]] == [(1, "daily", 1)]
    assert first["told"][0]["recipients"] == [
        {"channel": "out", "recipient": str(config.parent / "out"), "status": "sent"}
    ]
    assert first["waiting"] == ["daily"]
    (third,) = ask(f2b_digest, config, "192.0.2.3")
    assert (third["told"], third["waiting"]) == ([], ["daily"])
    (fourth,) = ask(f2b_digest, config, "192.0.2.4")
    assert (fourth["told"], fourth["waiting"], fourth["history"]) == ([], [], 1)
    assert f2b_digest("--config", config, "send").status == 0
    (first,) = ask(f2b_digest, config, "192.0.2.1")
    assert [told["digest"] for told in first["told"]] == [2, 1]
    assert first["waiting"] == []


def test_the_neighbours_of_an_address_are_counted(f2b_digest: Command, config: Path, path: Path) -> None:
    """Those of its /24 and /48, in no other network that is written alike."""
    fill(path, [event(ip=f"198.51.100.{n}", at=NOON + m) for n in range(8) for m in range(n + 1)])
    fill(path, [event(ip=ip) for ip in ("198.51.10.1", "198.51.101.1", "2001:db8:5::1", "2001:db8:5:9::1")])
    (answer,) = ask(f2b_digest, config, "198.51.100.3")
    assert answer["neighbours"]["network"] == "198.51.100.0/24"
    assert (answer["neighbours"]["addresses"], answer["neighbours"]["bans"]) == (7, 36 - 4)
    assert answer["neighbours"]["worst"][0] == ["198.51.100.7", 8]
    (answer,) = ask(f2b_digest, config, "2001:db8:5::1")
    assert (answer["neighbours"]["network"], answer["neighbours"]["addresses"]) == ("2001:db8:5::/48", 1)


def test_a_number_of_a_network_is_looked_up(
    f2b_digest: Command, config: Path, path: Path, known: list[Row], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a database of addresses; without one, it says what is missing."""
    fill(path, known)
    ended = f2b_digest("--config", config, "find", "AS64500")
    assert (ended.status, ended.err.count("\n")) == (1, 1)
    assert "address database" in ended.err

    def place(ip: str) -> Place | None:
        return Place("FR", 64500 if ip.startswith(("203.0.113.", "2001:db8")) else 64501, "Réseau")

    geography = Geography("atlas", NOON, "free", place)
    monkeypatch.setattr("f2b_digest.geoip.find", lambda paths: (geography, []))
    (answer,) = ask(f2b_digest, config, "as64500")
    mine = [row for row in known if row[IP].startswith(("203.0.113.", "2001:db8")) and "/" not in row[IP]]
    assert answer["counts"]["totals"]["bans"] == len(mine)
    (answer,) = ask(f2b_digest, config, "203.0.113.5")
    assert (answer["country"], answer["asn"], answer["name"]) == ("FR", 64500, "Réseau")
    assert "France, AS64500 Réseau" in f2b_digest("--config", config, "find", "203.0.113.5").out


def test_the_campaign_of_a_network_number_that_a_digest_told_is_told_again(
    f2b_digest: Command, config: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its size as the digest had it, and the worst of the others by that digest's events: no later ones."""
    members = [event(ip=f"198.18.{n}.7", at=NOON - k) for n in range(20) for k in range(1 + n % 4)]
    others = [event(ip=f"192.0.2.{n}") for n in range(3)]
    fill(path, [*members, *others])

    def place(ip: str) -> Place | None:
        return Place("FR", 64500 if ip.startswith("198.18.") else 64501, "Réseau")

    monkeypatch.setattr("f2b_digest.geoip.find", lambda paths: (Geography("atlas", NOON, "free", place), []))
    monkeypatch.setattr("f2b_digest.host.geoip.find", lambda paths: (Geography("atlas", NOON, "free", place), []))
    assert f2b_digest("--config", config, "send").status == 0
    fill(path, [event(ip="198.18.19.7", at=NOON + 1), event(ip="198.18.99.7", at=NOON + 2)])
    [answer] = ask(f2b_digest, config, "198.18.3.7")
    worst = [[f"198.18.{n}.7", 4] for n in (7, 11, 15, 19)]
    assert answer["campaign"]["worst"] == [*worst, ["198.18.2.7", 3]]
    assert [answer["campaign"][key] for key in ("asn", "name", "addresses", "bans")] == [64500, "Réseau", 20, 50]
    said = " ".join(f2b_digest("--config", config, "find", "198.18.3.7").out.split())
    assert (
        "reported it in an attack from 20 addresses of AS64500 Réseau, among them 198.18.7.7 (4), 198.18.11.7 (4)"
        in said
    )
    assert ask(f2b_digest, config, "192.0.2.1")[0]["campaign"] is None


def test_nothing_found_says_where_it_looked_and_since_when(f2b_digest: Command, config: Path, path: Path) -> None:
    """Whoever asks knows then whether that means anything."""
    fill(path, [event()])
    ended = f2b_digest("--config", config, "find", "198.51.100.1")
    assert ended.status == 0
    assert "198.51.100.1: no ban" in ended.out
    assert f"{path}" in ended.out.replace("\n  ", "")
    assert "since Thu 19 Nov 2026 12:00" in ended.out.replace("\n  ", " ")
    query(path, "DELETE FROM event")
    assert "which has no bans yet" in f2b_digest("--config", config, "find", "anna").out.replace("\n  ", " ")


@pytest.mark.parametrize("language", [language for language in i18n.known() if language != i18n.SOURCE])
def test_it_speaks_the_language_of_the_configuration(
    f2b_digest: Command, config: Path, path: Path, language: str
) -> None:
    """No English is left in an answer in another language; "ban" is fail2ban's own word in each."""
    config.write_text(f'language = "{language}"\n' + config.read_text())
    fill(path, [event(ip=f"192.0.2.{n}", users=["anna"], bantime=86400) for n in range(12)])
    text = f2b_digest("--config", config, "find", "192.0.2.1", "anna", "192.0.2.0/24", "203.0.113.1").out
    assert "192.0.2.1" in text
    assert not {"BANNED", "first", "last", "Told", "network", "since", "tried"} & set(text.split())


HOSTILE = "\x1b]0;owned\x07\u202e<b>\n"


def test_hostile_names_do_nothing_to_a_terminal(f2b_digest: Command, config: Path, path: Path) -> None:
    """Asked for or found, control characters are shown as escapes; a shell gets one word."""
    fill(path, [event(jail=HOSTILE, ip="192.0.2.1", users=[HOSTILE], bantime=-1), event(jail="-x; id", ip="$(id)")])
    for what in ("192.0.2.1", HOSTILE, "$(id)", "-x; id"):
        ended = f2b_digest("--config", config, "find", "--", what)
        assert ended.status == 0
        assert not [c for c in ended.out if not c.isprintable() and c != "\n"]
        assert "\\x1b" in ended.out or what in ("$(id)", "-x; id")
    (answer,) = ask(f2b_digest, config, "192.0.2.1")
    assert answer["counts"]["jails"][0]["name"] == HOSTILE


def test_no_store_a_new_store_and_an_older_one(f2b_digest: Command, config: Path, path: Path) -> None:
    """No store is one line; in one without digests, or of the version before, it finds what there is."""
    ended = f2b_digest("--config", config, "find", "192.0.2.7")
    assert (ended.status, ended.out, ended.err.count("\n")) == (1, "", 1)
    assert "no store at" in ended.err
    fill(path, [event(users=["anna"])])
    query(path, "DROP INDEX event_names")
    query(path, "PRAGMA user_version=4")
    before = path.read_bytes()
    assert ask(f2b_digest, config, "anna")[0]["counts"]["totals"]["bans"] == 1
    assert ask(f2b_digest, config, "192.0.2.7")[0]["waiting"] == ["daily"]
    assert path.read_bytes() == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_root_reads_another_users_store_as_that_user(apart: Command, config: Path, path: Path, tmp_path: Path) -> None:
    """And leaves nothing of its own in the folder."""
    folder = tmp_path / "store"
    fill(folder / "bans.sqlite3", [event()])
    for each in (folder, *folder.iterdir()):
        os.chown(each, 65534, 65534)
    let_everybody_enter(folder)
    ended = apart("--config", config, "--store", folder / "bans.sqlite3", "find", "192.0.2.7")
    assert (ended.status, ended.err) == (0, "")
    assert "192.0.2.7: 1 ban" in ended.out
    assert {each.stat().st_uid for each in folder.iterdir()} == {65534}


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ((), "Missing argument"),
        (("x", "--since", "soon"), "invalid time 'soon'; use"),
        (("x", "--since", "yesterday", "--until", "2026-11-01"), "--since is not before --until"),
        (("x", "--limit", "0"), "0 is not in the range"),
    ],
)
def test_what_cannot_be_asked_is_a_usage_error(
    f2b_digest: Command, config: Path, path: Path, words: tuple[str, ...], error: str
) -> None:
    """With the words that would do."""
    fill(path, [event()])
    ended = f2b_digest("--config", config, "find", *words)
    assert ended.status == 2
    assert error in ended.err


def test_no_network_is_asked(f2b_digest: Command, config: Path, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An admin's question is nobody else's business."""
    fill(path, [event(ip="203.0.113.5")])
    monkeypatch.setattr(socket, "socket", lambda *_, **__: pytest.fail("a socket was opened"))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: pytest.fail("a name was looked up"))
    assert f2b_digest("--config", config, "find", "203.0.113.5").status == 0


@pytest.fixture(scope="module", params=["0.11", "1.0", "1.1.0", "new"])
def server(request: pytest.FixtureRequest) -> Iterator[Fail2ban]:
    """Provide a running fail2ban of each version."""
    with Fail2ban(request.param) as running:
        running.jail("ssh", running.python_action())
        running.start()
        yield running


@pytest.mark.slow
def test_the_running_fail2ban_is_asked(
    server: Fail2ban, f2b_digest: Command, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It knows what was unbanned although no unban was recorded, and bans that were not recorded."""
    for ip in ("192.0.2.1", "192.0.2.2"):
        server.client("set", "ssh", "banip", ip)
    server.wait_until(lambda: len(server.events("ban")) >= 2, "two bans")
    server.wait_for_rest()
    query(server.store, "DELETE FROM event WHERE ip = '192.0.2.2'")
    fill(server.store, [event(jail="ssh", ip="192.0.2.3", bantime=86400)])
    monkeypatch.undo()
    monkeypatch.setattr(find, "Client", lambda **_: lambda *words, **__: server.client(*words))
    store = config.parent / "copy.sqlite3"
    query(server.store, f"VACUUM INTO '{store}'")  # a copy of the file would lack what is in the WAL
    command = ("--config", config, "--store", store, "find")
    text = run(*command, "192.0.2.1").out
    assert "BANNED NOW in ssh" in text
    assert "according to the running fail2ban" in text
    assert "not banned now" in run(*command, "192.0.2.3").out
    answers = json.loads(run(*command, "192.0.2.2", "192.0.2.1", "--json").out)
    assert [(each["asked"], [s["jail"] for s in each["standing"]]) for each in answers] == [("fail2ban", ["ssh"])] * 2


def steps(path: Path, *words: str) -> int:
    """Return how many thousand steps SQLite takes for an answer, which no load of the machine changes."""
    taken = 0

    def step() -> int:
        nonlocal taken
        taken += 1
        return 0

    bounds = Inquiry("user", "")
    configuration = Configuration("web1", ZoneInfo("UTC"), None, None, {"daily": Report()}, {})
    with Store(path, read_only=True) as store:
        assert store._connection is not None
        store._connection.set_progress_handler(step, 1000)
        for word in words:
            for asked in inquiry.understood(store, word, bounds):
                inquiry.answer(configuration, store, asked, now=NOON, host=inquiry.Host(), most=10)
    return taken


def test_an_answer_costs_what_it_tells_and_not_what_the_store_holds(tmp_path: Path) -> None:
    """Thirty times the bans, and the same answer: an address, a network and a name are found by index."""
    wanted = [event(ip=f"203.0.113.{n}", users=["anna"], at=NOON - n) for n in range(50)]
    costs = []
    for count in (1_000, 30_000):
        path = tmp_path / f"{count}.sqlite3"
        fill(path, wanted)
        fill(path, (
            event(ip=f"198.{n >> 16 & 63}.{n >> 8 & 255}.{n & 255}", users=[f"user{n % 100}"], at=NOON - n)
            for n in range(count)
        ))  # fmt: skip
        costs.append(steps(path, "203.0.113.5", "203.0.113.0/24", "anna"))
    assert costs[1] <= 1.5 * costs[0] + 2
