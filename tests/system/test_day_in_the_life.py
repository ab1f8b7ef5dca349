"""A day in the life of an installation: as who runs it, with real parts only, on its own server (see day.py)."""

import json
import re
import subprocess
import sys
import sysconfig
import time
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest

from f2b_digest import reconcile
from tests import ROOT
from tests.system.day import NAME, PASSWORD, PATIENCE, Server

pytestmark = pytest.mark.slow
SOURCES = ("f2b_digest", "action.d", "cron", "templates", "pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md")
NEWER = "99.0"
OWNER = "f2b-digest"
STARTED = re.compile(r"CMD .*f2b-digest")
RESTARTED = re.compile(r"Jail '(?:sshd|pam-generic)' (?:started|reloaded)")
FOLDER = "var/lib/fail2ban/f2b-digest"
CRON = "etc/cron.d/f2b-digest"
ACTION = "etc/fail2ban/action.d/f2b-digest.py"
LATER = "[pam-generic]\nenabled = true\nmaxretry = 2\nlogpath = /var/log/auth.log\n"
"""A jail that an admin enables: what PAM itself says of failures, the same log lines aside."""
MINUTE = "* * * * * root touch /run/minute\n"
"""A job of the admin's own, which shows that cron has done what was due."""
WITNESS = '[channels.witness]\nkind = "command"\ncommand = ["/opt/witness"]\n'
ACCOUNT_FILES = {f"etc/{name}{end}" for name in ("passwd", "group", "shadow", "gshadow", "subuid", "subgid")
                 for end in ("", "-")} | {"etc/.pwd.lock"}  # fmt: skip


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Build the program as it stands, and a newer version of it whose action is another file."""
    folder = tmp_path_factory.mktemp("wheels")
    newer = folder / "newer"
    newer.mkdir()
    for name in SOURCES:
        subprocess.run(["cp", "-a", ROOT / name, newer], check=True)
    (newer / "f2b_digest/__init__.py").write_text(f'"""Newer."""\n\n__version__ = "{NEWER}"\n')
    with (newer / "action.d/f2b-digest.py").open("a") as action:
        action.write("# newer\n")
    return build(ROOT, folder / "present"), build(newer, folder / "built")


def build(source: Path, folder: Path) -> Path:
    """Build a wheel."""
    subprocess.run([sys.executable, "-m", "build", "-q", "--wheel", "--outdir", folder, source], check=True)
    return next(folder.glob("*.whl"))


def test_a_day_in_the_life(wheels: tuple[Path, Path]) -> None:
    """Installed, attacked, changed, upgraded and taken away: each ban is reported once, and nothing cries wolf."""
    with Server() as server:
        server.well("fail2ban-client", "ping")
        before = server.tree("etc")
        install(server, wheels[0])
        attack(server)
        first = hear_of_it(server)
        missed = enable_a_jail_later(server)
        upgrade(server, wheels[1])
        run_out_of_disk(server)
        second = hear_of_the_rest(server, missed)
        every_ban_is_told_once(server, [first, second])
        uninstall(server, before)
        purge(server, before)


# ---- what happens in it


def install(server: Server, wheel: Path) -> None:
    """Follow the README; then all is well, and the jail records."""
    libraries = sysconfig.get_path("purelib")
    copy_in(server, wheel)
    server.well(
        "sh", "-ec",
        f"""mkdir /opt/libraries  # for pip, which has no network there: what the tests' own environment has
        for each in {libraries}/*; do case $each in *f2b*) ;; *) ln -s "$each" /opt/libraries/;; esac; done
        {sys.base_prefix}/bin/python3 -m venv --without-pip /opt/f2b-digest
        for folder in /opt/f2b-digest/lib/python*/site-packages; do echo /opt/libraries >$folder/libraries.pth; done
        /opt/f2b-digest/bin/python3 -m pip install -q --no-index /opt/{wheel.name}
        ln -sf /opt/f2b-digest/bin/f2b-digest /usr/local/bin/""",
    )  # fmt: skip
    setup(server)
    assert troubles(server) == []
    assert users_in_cron(server) == {"root"}
    configuration = server.read("etc/f2b-digest/config.toml").replace('["mail"]', '["mail", "witness"]')
    server.write("etc/f2b-digest/config.toml", configuration + WITNESS)


def attack(server: Server) -> None:
    """Two hosts guess; anna logs in from a third, and somebody guesses there, too. Each ban is in the store."""
    strangers = [server.knock(f"198.51.100.{last}", "guest") for last in (21, 22)]
    banned(server, ("sshd", "198.51.100.21"), ("sshd", "198.51.100.22"))
    anna = server.knock("198.51.100.23", "anna", password=PASSWORD)
    said = anna.communicate(timeout=60)[0]
    assert anna.returncode == 0, f"{said}\n{server.logs()}"
    strangers.append(server.knock("198.51.100.23", "anna"))
    banned(server, ("sshd", "198.51.100.23"))
    for each in strangers:
        each.communicate(timeout=60)
    assert recorded(server) == bans(server)


def hear_of_it(server: Server) -> EmailMessage:
    """Change cron's minute, which `setup` respects; then the mail says what root's preview says, sent by the owner."""
    preview = well(server, "preview")
    assert "sshd banned 198.51.100.23, from where anna logged in." in " ".join(preview.split())
    at_the_next_minute(server)
    edited = server.read(CRON)
    assert "all files are up to date" in setup(server)
    assert server.read(CRON) == edited
    assert [path.name for path in (server.root / "etc/cron.d").iterdir()] == ["f2b-digest"]
    assert troubles(server) == []
    [mail] = mails(server, 1)
    assert lasting(text_of(mail)) == lasting(preview)
    assert "Your address 198.51.100.23 is banned" in mail["Subject"]
    sent_by_the_owner(server, mail)
    assert well(server, "history").count("  sent ") == 2
    return mail


def enable_a_jail_later(server: Server) -> float:
    """`check` names the jail that does not record, `setup` fixes it; return when its last ban was missed."""
    server.write("etc/fail2ban/jail.d/later.local", LATER)
    server.well("fail2ban-client", "reload")
    guess_twice(server, "198.51.100.31")
    missed = time.time()
    assert ("pam-generic", "198.51.100.31") not in recorded(server)
    assert any(
        line.startswith("error   jail pam-generic: bans without the f2b-digest action") for line in troubles(server)
    )
    setup(server)
    assert not [line for line in troubles(server) if line.startswith("error")]
    guess_twice(server, "198.51.100.32")
    server.wait_for(lambda: ("pam-generic", "198.51.100.32") in recorded(server), "the later jail's ban")
    return missed


def upgrade(server: Server, wheel: Path) -> None:
    """Install a newer version while fail2ban bans on: `check` names the old action, `setup` renews it."""
    copy_in(server, wheel)
    bans_meanwhile = server.begin(
        "sh", "-c",
        "for last in $(seq 40 59); do fail2ban-client set sshd banip 198.51.100.$last; sleep 0.4; done",
    )  # fmt: skip
    server.well(
        "/opt/f2b-digest/bin/python3", "-m", "pip", "install", "-q", "--no-index", "--upgrade", f"/opt/{wheel.name}"
    )
    assert NEWER in well(server, "--version")
    assert "# newer" not in server.read(ACTION)
    assert any(f"/{ACTION}" in line for line in troubles(server)), troubles(server)
    setup(server)
    assert server.read(ACTION).endswith("# newer\n")
    bans_meanwhile.communicate(timeout=60)
    assert not [line for line in troubles(server) if line.startswith("error")]
    assert bans(server) - recorded(server) == {("pam-generic", "198.51.100.31")}
    assert len(bans(server)) > 20


def run_out_of_disk(server: Server) -> None:
    """While the store's disk is full, fail2ban bans on and `check` says so; no ban is lost."""
    fill = server.root / FOLDER / "../fill"
    server("sh", "-c", "cat /dev/zero >/var/lib/fail2ban/fill")
    started = time.monotonic()
    for last in (61, 62, 63):
        server("fail2ban-client", "set", "sshd", "banip", f"198.51.100.{last}")
    assert time.monotonic() - started < 10
    banned(server, *(("sshd", f"198.51.100.{last}") for last in (61, 62, 63)))
    assert any(line.startswith("error   disk") for line in troubles(server)), troubles(server)
    fill.unlink()


def nothing_is_left_to_set_up(server: Server) -> None:
    """Another `setup` changes no file, and leaves fail2ban alone."""
    before, restarts = server.tree("etc", "usr/local"), len(RESTARTED.findall(server.read("var/log/fail2ban.log")))
    assert "all files are up to date" in setup(server)
    assert server.tree("etc", "usr/local") == before
    assert len(RESTARTED.findall(server.read("var/log/fail2ban.log"))) == restarts


def hear_of_the_rest(server: Server, missed: float) -> EmailMessage:
    """The newer version sends, from a folder that only root may enter: also the ban that only fail2ban knew."""
    (server.root / "opt/f2b-digest").chmod(0o700)
    time.sleep(max(0.0, missed + reconcile.YOUNG - time.time()))  # a younger ban may be on its way to the store yet
    nothing_is_left_to_set_up(server)
    preview = server("f2b-digest", "preview")
    assert "3 more events are in " in preview.stderr, "what the full disk held up is in its spool"
    at_the_next_minute(server)
    mail = mails(server, 2)[1]
    assert urgent(text_of(mail)) == urgent(preview.stdout), "what needs somebody"
    assert urgent(text_of(mail))[1:], "anna is still banned"
    assert mail["X-F2B-Digest"].startswith(NEWER)
    digest = json.loads(well(server, "show", "2", "--format", "json"))
    assert ("pam-generic", "198.51.100.31") in bans_of(digest)
    assert re.search(r"^  pam-generic +2\b", text_of(mail), re.MULTILINE), "with the one that was missed"
    assert re.search(r"1 missed ban (was )?recovered", " ".join(text_of(mail).split()))
    sent_by_the_owner(server, mail)
    return mail


def every_ban_is_told_once(server: Server, told: list[EmailMessage]) -> None:
    """By the archive, by the subjects, and by the mails: no ban twice, none left out, no scratch jail among them."""
    digests = [json.loads(well(server, "show", str(number + 1), "--format", "json")) for number in range(len(told))]
    bans_told = [ban for digest in digests for ban in bans_of(digest)]
    assert sorted(bans_told) == sorted(bans(server))
    for mail, digest in zip(told, digests, strict=True):
        assert f"{digest['totals']['bans']} bans" in text_of(mail)
        assert "f2b-digest-setup" not in mail.as_string()
    assert sum(digest["totals"]["bans"] for digest in digests) == len(bans(server))
    assert not mails(server, 0, user="root"), "cron had something to say"


def uninstall(server: Server, before: dict[str, Any]) -> None:
    """Take it back: fail2ban bans on, cron is silent, and what is left is what was said."""
    server.write("etc/cron.d/mine", MINUTE)
    said = well(server, "setup", "--uninstall", "--yes")
    at = time.time()
    for word in ("store", "config.toml", OWNER):
        assert word in said
    server.well("fail2ban-client", "set", "sshd", "banip", "198.51.100.71")
    banned(server, ("sshd", "198.51.100.71"))
    assert ("sshd", "198.51.100.71") not in recorded(server)
    left = server.tree("etc")
    mine = {"etc/cron.d/mine", "etc/fail2ban/jail.d/later.local"}
    unsaid = [name for name in set(left) - set(before) - mine - ACCOUNT_FILES if f"/{name}" not in said]
    assert not unsaid, f"{unsaid} stay, and nobody was told"
    assert {name: left.get(name) for name in before if name not in ACCOUNT_FILES} == {
        name: before[name] for name in before if name not in ACCOUNT_FILES
    }
    assert recorded(server)
    ran = len(STARTED.findall(server.read("var/log/cron.log")))
    minute = server.root / "run/minute"
    server.wait_for(lambda: minute.exists() and minute.stat().st_mtime > at, "cron's next minute", 70 + PATIENCE)
    assert len(STARTED.findall(server.read("var/log/cron.log"))) == ran
    assert not mails(server, 0, user="root"), "cron had something to say"


def purge(server: Server, before: dict[str, Any]) -> None:
    """Take away what `uninstall` left, and then the program, as the README says: nothing of it remains."""
    well(server, "setup", "--purge", "--yes")
    server.well("rm", "-r", "/opt/f2b-digest", "/usr/local/bin/f2b-digest")
    assert server("id", OWNER).returncode != 0
    assert not (server.root / FOLDER).exists()
    after = server.tree("etc")
    assert [name for name in set(after) - set(before) - ACCOUNT_FILES if OWNER in name] == []
    server.well("fail2ban-client", "reload")
    server.well("fail2ban-client", "set", "sshd", "banip", "198.51.100.72")
    banned(server, ("sshd", "198.51.100.72"))


# ---- what is asked of it


def copy_in(server: Server, wheel: Path) -> None:
    """Bring a wheel to the server."""
    (server.root / "opt" / wheel.name).write_bytes(wheel.read_bytes())


def well(server: Server, *words: str) -> str:
    """Run the program as root, without a word of trouble, and return what it said."""
    done = server("f2b-digest", *words)
    assert (done.returncode, done.stderr) == (0, ""), f"{words}: {done.stdout}\n{done.stderr}"
    return done.stdout


def setup(server: Server) -> str:
    """Run `setup`, which must end well."""
    return well(server, "setup", "--yes")


def troubles(server: Server) -> list[str]:
    """Return the lines of `check` that are not ok."""
    done = server("f2b-digest", "check")
    lines = done.stdout.splitlines()
    assert lines, done.stderr
    assert done.stderr == ""
    return [line for line in lines if not line.startswith("ok ")]


def bans(server: Server) -> set[tuple[str, str]]:
    """Return jail and address of each ban, as fail2ban's own log has them."""
    lines = re.findall(r"NOTICE +\[([^]]+)\] Ban (\S+)", server.read("var/log/fail2ban.log"))
    found = [(jail, ip) for jail, ip in lines if jail != "f2b-digest-setup"]
    assert len(set(found)) == len(found)
    return set(found)


def banned(server: Server, *wanted: tuple[str, str]) -> None:
    """Wait until fail2ban has banned."""
    server.wait_for(lambda: bans(server) >= set(wanted), f"bans of {wanted}", 2 * PATIENCE)


def recorded(server: Server) -> set[tuple[str, str]]:
    """Return jail and address of each ban in the store, where none stands twice."""
    found = server.select(f"{FOLDER}/bans.sqlite3", "SELECT jail, ip FROM event WHERE kind = 'ban'")
    assert len(set(found)) == len(found)
    return {(jail, ip) for jail, ip in found}


def guess_twice(server: Server, address: str) -> None:
    """Fail to log in by two connections, one guess each: too often for PAM's jail, not for sshd's."""
    for attempt in [server.knock(address, "guest", guesses=1) for _ in range(2)]:
        attempt.communicate(timeout=60)
    banned(server, ("pam-generic", address))


def users_in_cron(server: Server) -> set[str]:
    """Return who runs the program by cron."""
    return set(re.findall(r"^[@*\d].*?(\S+)  \S*f2b-digest ", server.read(CRON), re.MULTILINE))


def at_the_next_minute(server: Server) -> None:
    """Let cron send at the next full minute that is some seconds away, as an admin would: by that line's time."""
    minute, hour, second = map(int, server.well("date", "+%-M %-H %-S").split())
    minute += 1 if second < 50 else 2
    time_of_it = f"{minute % 60} {(hour + minute // 60) % 24} * * *"
    text, count = re.subn(r"^(@daily|\d+ \d+ \* \* \*)(?=\s)", time_of_it, server.read(CRON), flags=re.MULTILINE)
    assert count == 1, text
    server.write(CRON, text)


def mails(server: Server, count: int, user: str = "anna") -> list[EmailMessage]:
    """Wait for this many mails in a mailbox, and return all that are there."""
    server.wait_for(lambda: len(server.mails(user)) >= count, f"mail {count} to {user}", 120 + PATIENCE)
    return server.mails(user)


def text_of(mail: EmailMessage) -> str:
    """Return what a mail says to who reads text."""
    body = mail.get_body(("plain",))
    assert body is not None
    return str(body.get_content())


def lasting(text: str) -> list[str]:
    """Return the paragraphs of a digest's text without what the time itself changes: when its period was."""
    masthead, rest = text.replace("\r", "").strip().split("\n", 1)
    assert masthead.startswith(f"{NAME} · daily · "), masthead
    return [part for part in rest.split("\n\n") if not part.startswith("When: ")]


def urgent(text: str) -> list[str]:
    """Return a digest's headline, and each finding that needs attention, with the commands it gives."""
    headline, *findings = re.split(r"\n(?=[!*-] )", lasting(text)[0])
    return [headline] + [finding for finding in findings if finding.startswith("!")]


def bans_of(digest: dict[str, Any]) -> list[tuple[str, str]]:
    """Return jail and address of all that a digest of the archive tells of."""
    return [(jail["name"], address["ip"]) for jail in digest["jails"] for address in jail["worst"]]


def sent_by_the_owner(server: Server, mail: EmailMessage) -> None:
    """Cron started it as root, the store's owner handed the mail in, and all in the folder is the owner's."""
    owner = int(server.well("id", "-u", OWNER))
    assert f"from userid {owner})" in mail["Received"]
    group = int(server.well("id", "-g", OWNER))
    witness = server.read("tmp/witness").splitlines()
    assert witness[:4] == [
        f"Uid:\t{owner}\t{owner}\t{owner}\t{owner}", f"Gid:\t{group}\t{group}\t{group}\t{group}",
        f"Groups:\t{group} ", f"CapEff:\t{0:016x}",
    ]  # fmt: skip
    assert witness[4:]
    assert all(line.split()[:2] == [str(owner)] * 2 for line in witness[4:]), witness
    assert re.search(r"\(root\) CMD .*f2b-digest send daily", server.read("var/log/cron.log"))
    owners = {path.lstat().st_uid for path in [server.root / FOLDER, *(server.root / FOLDER).rglob("*")]}
    assert owners == {owner}
    server.wait_for(lambda: not server("pgrep", "-f", "f2b-digest send").stdout, "the end of send")
