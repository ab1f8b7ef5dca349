"""The package's units under a real systemd, and cron beside it: timers, sandbox, failures told, credentials."""

from collections.abc import Iterator

import pytest

from tests.packaging.debian import Debian
from tests.packaging.publishing import Published

pytestmark = [pytest.mark.slow, pytest.mark.alone]

SERVICES = ("f2b-digest-send@daily.service", "f2b-digest-retry.service", "f2b-digest-failed@x.service")
RECEIVER = """
import http.server
class Hook(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        open("/root/heard", "a").write(self.headers["Authorization"] + "\\n")
        self.send_response(204)
        self.end_headers()
http.server.HTTPServer(("127.0.0.1", 8080), Hook).serve_forever()
"""
WEBHOOK = """
[reports.hook]
channels = ["hook"]
[channels.hook]
kind = "webhook"
url = "http://127.0.0.1:8080/"
token_file = "$CREDENTIALS_DIRECTORY/hook"
"""
CONFINED = """
[Service]
PrivateDevices=yes
PrivateTmp=yes
ProtectHome=read-only
ProtectSystem=strict
ReadWritePaths=/run/fail2ban /var/lib/fail2ban /var/log
CapabilityBoundingSet=CAP_AUDIT_READ CAP_DAC_READ_SEARCH CAP_NET_ADMIN CAP_NET_RAW
"""
"""A confinement that guides give fail2ban: its own folders, and no power of root's over other users' files."""
TO_STORE = "CapabilityBoundingSet=CAP_CHOWN CAP_DAC_OVERRIDE\n"
"""What docs/installation.md adds to it, for a store that is another user's."""


@pytest.fixture(scope="module", params=["bookworm", "trixie"])
def machine(published: Published, request: pytest.FixtureRequest) -> Iterator[Debian]:
    """Provide a machine where the package is installed and set up; the second one with --all-suites only."""
    if request.param != "bookworm" and not request.config.getoption("--all-suites"):
        pytest.skip("--all-suites boots Debian 13, too")
    with Debian(request.param, published.repository) as machine:
        machine.install()
        machine("f2b-digest setup --yes")
        yield machine


def drop_in(machine: Debian, unit: str, text: str) -> None:
    """Do what `systemctl edit` does."""
    machine.write(f"etc/systemd/system/{unit}.d/test.conf", text)
    machine("systemctl daemon-reload")


def take_away(machine: Debian, unit: str) -> None:
    """Do what `systemctl revert` does."""
    machine(f"rm -r /etc/systemd/system/{unit}.d && systemctl daemon-reload")


def test_the_services_are_hardened(machine: Debian) -> None:
    """By systemd's own measure: 3.0 at most, of 10."""
    machine(f"systemd-analyze security --no-pager --threshold=30 {' '.join(SERVICES)}")


def test_a_timer_sends_the_digest(machine: Debian) -> None:
    """Under the sandbox, as root who becomes the store's owner, through a sendmail that is setgid."""
    machine.ban("203.0.113.7")
    timer = "f2b-digest-send@daily.timer"
    assert "OnCalendar=daily" in machine(f"systemctl show -p TimersCalendar {timer}").replace("*-*-* 00:00:00", "daily")
    drop_in(machine, timer, "[Timer]\nOnCalendar=\nOnCalendar=*:*:*\nAccuracySec=1ms\n")
    machine(f"systemctl restart {timer}")
    told = machine.mail("203.0.113.7")
    take_away(machine, timer)
    machine(f"systemctl restart {timer}")
    owner = machine("id -u f2b-digest").strip()
    assert f"from userid {owner})" in told
    assert machine("f2b-digest status").count("all digests delivered") == 1
    machine("systemctl start f2b-digest-retry.service")
    assert (
        machine("journalctl -q -o cat -t f2b-digest -u 'f2b-digest-*' | grep -vE 'systemd|Start|Finish|Deact' || true")
        == ""
    )


def test_a_failure_is_told(machine: Debian) -> None:
    """As cron would: by mail to root, with the line that says why."""
    machine("cp /etc/f2b-digest/config.toml /root/ && echo 'hosst = 1' >> /etc/f2b-digest/config.toml")
    assert machine.run("systemctl start f2b-digest-send@daily.service").returncode != 0
    assert "hosst" in machine.mail("f2b-digest-send@daily.service failed on").rpartition("Subject: ")[2]
    machine("cp /root/config.toml /etc/f2b-digest/ && systemctl start f2b-digest-send@daily.service")


def test_a_secret_comes_as_a_credential(machine: Debian) -> None:
    """The configuration names it; only the unit that loads it can read it."""
    machine.write("root/receiver.py", RECEIVER)
    machine("systemd-run --unit=receiver python3 /root/receiver.py")
    machine(
        "install -m 600 /dev/null /root/token && echo tk_secret > /root/token && cp /etc/f2b-digest/config.toml /root/"
    )
    machine.write("etc/f2b-digest/config.toml", machine.read("root/config.toml") + WEBHOOK)
    assert "is a credential, which only the unit that loads it can read" in machine.run("f2b-digest check").stdout
    drop_in(machine, "f2b-digest-send@hook.service", "[Service]\nLoadCredential=hook:/root/token\n")
    machine("systemctl start f2b-digest-send@hook.service")
    assert machine.until("cat /root/heard").strip() == "Bearer tk_secret"
    machine("cp /root/config.toml /etc/f2b-digest/ && systemctl stop receiver")
    take_away(machine, "f2b-digest-send@hook.service")


def test_a_confined_fail2ban_reaches_the_store(machine: Debian) -> None:
    """It records with the two capabilities that the documentation names; without them, its log says that it cannot."""
    drop_in(machine, "fail2ban.service", CONFINED)
    machine("systemctl restart fail2ban")
    machine.until("fail2ban-client ping")
    machine("fail2ban-client set sshd banip 203.0.113.6")
    machine.until("grep -q 'f2b-digest.*203.0.113.6' /var/log/fail2ban.log || { tail /var/log/fail2ban.log; false; }")
    drop_in(machine, "fail2ban.service", CONFINED + TO_STORE)
    machine("systemctl restart fail2ban")
    machine.until("fail2ban-client ping")
    machine.ban("203.0.113.8")
    take_away(machine, "fail2ban.service")
    machine("systemctl restart fail2ban")
    machine.until("fail2ban-client ping")


def test_cron_does_the_same(machine: Debian) -> None:
    """Where it is preferred: the timers stop, and cron's daemon sends."""
    machine("f2b-digest setup --yes --scheduler cron")
    assert "f2b-digest" not in machine("systemctl list-timers --all")
    machine.ban("203.0.113.9")
    machine("sed -i s/@daily/@reboot/ /etc/cron.d/f2b-digest && rm -f /run/crond.reboot && systemctl restart cron")
    machine.mail("203.0.113.9")
    assert "error" not in machine.run("f2b-digest check").stdout
    machine("rm /etc/cron.d/f2b-digest && f2b-digest setup --yes --scheduler systemd")
    assert "f2b-digest-send@daily.timer" in machine("systemctl list-timers")
