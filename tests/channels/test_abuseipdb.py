"""Tests of the abuseipdb channel against a local server that speaks AbuseIPDB's documented protocol.

No address here is ever reported to anybody: every request goes to 127.0.0.1.
"""

import configparser
import json
from collections.abc import Iterator
from datetime import datetime
from email import message_from_bytes
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs
from zoneinfo import ZoneInfo

import pytest
from pydantic import ValidationError

from f2b_digest import delivery, resources
from f2b_digest.channels.abuse_rows import BULK_BYTES, BULK_LINES, CATEGORIES, pieces, redacted, to_csv
from f2b_digest.channels.abuseipdb import AbuseIPDB
from f2b_digest.channels.base import Overdue
from f2b_digest.config import Configuration, Report
from f2b_digest.delivery.attempts import Outcome
from f2b_digest.errors import DeliveryError
from f2b_digest.model.message import Message
from f2b_digest.rendering.renderer import Renderer
from f2b_digest.store import Store
from tests.channels.http_service import Answer, HttpService, Request, as_json, says
from tests.support.parts import unpacked
from tests.support.program import Command
from tests.support.store_making import NOON, event, fill, query

KEY = "4b" * 40
IPS = [f"8.8.{n // 250}.{n % 250 + 1}" for n in range(12_000)]
"""Addresses that the whole world can see."""


class Service:
    """What AbuseIPDB documents: two endpoints, the daily limits of each, once in 15 minutes, strict CSV."""

    def __init__(self, report: int = 1000, bulk: int = 5) -> None:
        """Have this many requests left for each endpoint."""
        self.left = {"/report": report, "/bulk-report": bulk}
        self.rows: list[tuple[str, str, datetime, str]] = []
        """What was taken: address, categories, time, comment."""
        self.files: list[list[list[str]]] = []
        self.refused: dict[str, str] = {}
        """Addresses that are not taken, with the service's own message."""

    def __call__(self, request: Request) -> Answer:
        """Answer one request."""
        if request.headers.get("accept") != "application/json":
            return Answer(401, b"<h1>Authentication failed</h1>")
        if request.headers.get("key") != KEY:
            return errors(401, "Authentication failed. Your API key is either missing, incorrect, or revoked.")
        if self.left[request.path] == 0:
            words = f"Daily rate limit of 1000 requests exceeded for this endpoint. {request.headers['key']}"
            return errors(429, words, Retry_After="29241", X_RateLimit_Remaining="0")
        self.left[request.path] -= 1
        return self._report(request) if request.path == "/report" else self._bulk(request)

    def _report(self, request: Request) -> Answer:
        form = {name: values[0] for name, values in parse_qs(request.body.decode(), strict_parsing=True).items()}
        ip = form["ip"]
        if ip in self.refused:
            return errors(422, self.refused[ip], "ip")
        if self._known(ip):
            return errors(429, f"You can only report the same IP address (`{ip}`) once in 15 minutes.", "ip")
        self._take(ip, form["categories"], form["timestamp"], form["comment"])
        return as_json(200, {"data": {"ipAddress": ip, "abuseConfidenceScore": 52}})

    def _bulk(self, request: Request) -> Answer:
        head = f"Content-Type: {request.headers['content-type']}\r\n\r\n".encode()
        _, file = message_from_bytes(head + request.body).walk()
        assert file.get_param("name", header="content-disposition") == "csv"
        content = file.get_payload(decode=True)
        assert isinstance(content, bytes)
        assert len(content) < 2_000_000
        header, *rows = lines = strict_csv(content.decode())
        assert header == ["IP", "Categories", "ReportDate", "Comment"]
        assert len(lines) <= 10_000
        self.files.append(rows)
        invalid = []
        for number, row in enumerate(rows, 2):
            ip, categories, date, comment = row
            if ip in self.refused or self._known(ip):
                words = self.refused.get(ip, "Duplicate IP")
                invalid.append({"error": words, "input": ip, "rowNumber": number})
            else:
                self._take(ip, categories, date, comment)
        return as_json(200, {"data": {"savedReports": len(rows) - len(invalid), "invalidReports": invalid}})

    def _known(self, ip: str) -> bool:
        return any(row[0] == ip for row in self.rows)

    def _take(self, ip: str, categories: str, date: str, comment: str) -> None:
        at = datetime.fromisoformat(date)
        assert at.tzinfo
        assert ip_address(ip).is_global
        assert all(1 <= int(number) <= 23 for number in categories.split(","))
        assert len(comment.encode()) <= 1024
        self.rows.append((ip, categories, at, comment))

    @property
    def ips(self) -> list[str]:
        """Return the addresses that were taken."""
        return [row[0] for row in self.rows]


def errors(status: int, words: str, parameter: str = "", **headers: str) -> Answer:
    """Return an error as the service writes it."""
    source = {"source": {"parameter": parameter}} if parameter else {}
    return as_json(status, {"errors": [{"detail": words, "status": status, **source}]}, **headers)


def strict_csv(text: str) -> list[list[str]]:
    r"""Return the rows of a CSV text by the service's rules: a backslash escapes the quote, but not itself."""
    rows, row, field, quoted, position = [], [], "", False, 0
    while position < len(text):
        character = text[position]
        if quoted and text.startswith('\\"', position):
            field, position = field + '"', position + 1
        elif character == '"':
            assert quoted or not field, "a quote within a field"
            assert not quoted or text[position + 1] in ",\n", "a field goes on behind its quote"
            quoted = not quoted
        elif not quoted and character in ",\n":
            row.append(field)
            field = ""
            if character == "\n":
                rows.append(row)
                row = []
        else:
            assert quoted or character.isalnum() or character in ".:"
            field += character
        position += 1
    assert not quoted
    assert not row
    assert not field
    assert all(len(row) == 4 for row in rows)
    return rows


@pytest.fixture
def service() -> Service:
    """Provide a service with a day's limits."""
    return Service()


@pytest.fixture
def http(service: Service) -> Iterator[HttpService]:
    """Run it."""
    with HttpService(service) as running:
        yield running


def abuse(http: HttpService | None = None, **settings: Any) -> AbuseIPDB:
    """Return the channel as a configuration makes it."""
    url = http.url if http else "http://127.0.0.1:1"
    least = {"kind": "abuseipdb", "url": url} | ({} if "dry_run" in settings else {"key": KEY})
    return AbuseIPDB.model_validate(least | settings)


class Office:
    """A store, this channel, and a clock that the test sets."""

    def __init__(self, path: Path, channel: AbuseIPDB) -> None:
        """Begin at noon."""
        self.path, self.channel, self.now = path, channel, NOON

    def ban(self, *ips: str, jail: str = "sshd", **more: Any) -> None:
        """Ban addresses now."""
        fill(self.path, [event(ip=ip, jail=jail, **{"at": self.now, "failures": 5} | more) for ip in ips])

    @property
    def configuration(self) -> Configuration:
        """Return what a configuration file would say."""
        reports = {"daily": Report(channels=("abuse",))}
        return Configuration("web1.example.org", ZoneInfo("UTC"), None, None, reports, {"abuse": self.channel})

    def send(self) -> list[Outcome]:
        """Send the report."""
        with Store(self.path, read_only=False) as store:
            renderer = Renderer(resources.folder("templates"))
            return delivery.send(self.configuration, store, renderer, ["daily"], lambda: self.now)

    def retry(self, after: float = 301.0) -> list[Outcome]:
        """Try again, this many seconds later."""
        self.now += after
        with Store(self.path, read_only=False) as store:
            return delivery.retry(self.configuration, store, lambda: self.now)


@pytest.fixture
def office(path: Path, http: HttpService) -> Office:
    """Provide an office that reports to the server."""
    return Office(path, abuse(http))


# ---- what is reported


def test_a_ban_by_hand_and_a_lifted_one_accuse_nobody(office: Office, service: Service) -> None:
    """A ban without a failure is somebody's own; one that somebody lifted was a mistake. What ran out was neither."""
    office.ban("8.8.8.1", failures=0, bantime=3600, recorded_at=NOON)
    office.ban("8.8.8.2", "8.8.8.3", "8.8.8.4", bantime=600, recorded_at=NOON)
    office.ban("8.8.8.5", failures=None, bantime=600)
    ends = {"8.8.8.1": 60, "8.8.8.2": 60, "8.8.8.3": 600}
    fill(office.path, [event("unban", ip=ip, at=NOON, recorded_at=NOON + after) for ip, after in ends.items()])
    office.now += 900
    (outcome,) = office.send()
    assert sorted(service.ips) == ["8.8.8.3", "8.8.8.4", "8.8.8.5"]
    assert "banned manually, without a failure: 8.8.8.1" in (outcome.reason or "")
    assert "unbanned early: 8.8.8.2" in (outcome.reason or "")
    comments = {row[0]: row[3] for row in service.rows}
    assert "1x banned, 5 failures, 2026" in comments["8.8.8.4"]
    assert "1x banned, 2026" in comments["8.8.8.5"]


def test_failures_that_are_known_in_part_are_said_so(office: Office, service: Service) -> None:
    """Of two bans, one was imported from a log that does not know."""
    office.ban("8.8.8.8")
    office.now += 60
    office.ban("8.8.8.8", failures=None)
    office.send()
    assert "2x banned, at least 5 failures" in service.rows[0][3]


def test_each_address_is_one_row_with_the_categories_of_its_jails(office: Office, service: Service) -> None:
    """The union of the jails' categories, the newest ban's time in UTC, and a comment without log lines."""
    office.ban("8.8.8.8", matches="Failed password for root")
    office.now += 60
    office.ban("8.8.8.8", jail="vsftpd")
    office.ban("2001:4860:4860::8888", jail="nginx-botsearch")
    (outcome,) = office.send()
    assert (outcome.status, outcome.reason) == ("sent", "2 rows reported")
    taken = {row[0]: row for row in service.rows}
    assert set(taken) == {"8.8.8.8", "2001:4860:4860::8888"}
    assert taken["8.8.8.8"][1] == "5,18,22"
    assert taken["8.8.8.8"][2].timestamp() == NOON + 60
    assert "fail2ban jail sshd: 1x banned, 5 failures" in taken["8.8.8.8"][3]
    assert "fail2ban jail vsftpd" in taken["8.8.8.8"][3]
    assert "root" not in taken["8.8.8.8"][3]


@pytest.mark.parametrize(("count", "files", "singles"), [(19, 0, 19), (20, 1, 0), (21, 1, 0)])
def test_from_20_rows_on_one_bulk_report_is_spent(
    office: Office, service: Service, http: HttpService, count: int, files: int, singles: int
) -> None:
    """Below, one request for each row: a free account has five bulk reports a day."""
    office.ban(*IPS[:count])
    office.send()
    paths = [request.path for request in http.requests]
    assert (paths.count("/bulk-report"), paths.count("/report")) == (files, singles)
    assert sorted(service.ips) == sorted(IPS[:count])


def test_who_must_not_be_reported_is_left_out_and_named(office: Office, service: Service) -> None:
    """Private, reserved, ignored, no address at all, too old, of an unknown jail; status says so."""
    office.channel = office.channel.model_copy(update={"ignore": ("9.9.9.0/24", "2620:fe::/48")})
    bad = ["10.0.0.1", "127.0.0.1", "192.0.2.1", "169.254.1.1", "224.0.0.1", "fe80::1", "::1", "0.0.0.0", "9.9.9.9",
           "2620:fe::fe", "8.8.8.0/24", "not an address", '2001:4860::1%x\r\n"', "100.64.0.1"]  # fmt: skip
    office.ban("8.8.8.8", *bad)
    office.ban("8.8.4.4", at=NOON - 60 * 86400 - 1)
    office.ban("1.1.1.1", at=NOON - 60 * 86400 + 1)
    office.ban("1.0.0.1", jail="my-jail")
    office.ban("1.0.0.2", jail="recidive")
    (outcome,) = office.send()
    assert sorted(service.ips) == ["1.1.1.1", "8.8.8.8"]
    assert "jails without a category: my-jail, recidive" in outcome.reason
    assert "older than 60 days: 8.8.4.4" in outcome.reason
    assert "private, reserved or ignored: 0.0.0.0" in outcome.reason
    assert "\n" not in outcome.reason


def test_categories_of_the_admins_go_before_the_table(office: Office, service: Service) -> None:
    """A jail of one's own gets a row by its categories, and a known one other categories."""
    office.channel = office.channel.model_copy(update={"categories": {"my-jail": "21", "sshd": "22"}})
    office.ban("8.8.8.8", jail="my-jail")
    office.ban("8.8.4.4")
    office.send()
    assert {row[0]: row[1] for row in service.rows} == {"8.8.8.8": "21", "8.8.4.4": "22"}


@pytest.mark.parametrize("categories", ["", "0", "24", "18;22", "18, 22", "ssh"])
def test_categories_that_there_are_not_are_refused(categories: str) -> None:
    """With the configuration, and not at night by the service."""
    with pytest.raises(ValidationError, match="my-jail"):
        abuse(categories={"my-jail": categories})


@pytest.mark.parametrize("version", ["fail2ban-0.11", "fail2ban-1.1.0", "fail2ban-new"])
def test_every_jail_of_fail2bans_own_has_a_category_or_a_reason(version: str) -> None:
    """Read from its jail.conf; the table's text says why these four have none."""
    parser = configparser.RawConfigParser(strict=False)
    parser.read(unpacked(version, "any", "fail2ban") / "etc/fail2ban/jail.conf")
    jails = set(parser.sections()) - {"INCLUDES", "DEFAULT"}
    assert len(jails) > 70
    assert jails - set(CATEGORIES) <= {"recidive", "named-refused", "nsd", "pass2allow-ftp"}


def test_small_digests_are_left_out(office: Office, service: Service) -> None:
    """With min_bans = 2 the first waits for the second."""
    office.channel = office.channel.model_copy(update={"min_bans": 2})
    office.ban("8.8.8.8")
    assert office.send() == []
    office.ban("8.8.4.4")
    office.send()
    assert sorted(service.ips) == ["8.8.4.4", "8.8.8.8"]


def test_an_address_is_not_reported_twice_within_15_minutes(office: Office, http: HttpService) -> None:
    """It is left out without a request, and reported again when the service wants to hear of it."""
    for after, requests, words in ((0, 1, "1 row reported"), (899, 1, "15 minutes ago: 8.8.8.8"), (2, 2, "1 row")):
        office.now += after
        office.ban("8.8.8.8")
        if requests == 2:
            http.script = Service()
        (outcome,) = office.send()
        assert len(http.requests) == requests
        assert words in outcome.reason


def test_absurd_times_do_not_stop_the_digest(office: Office, service: Service) -> None:
    """Nor is a time in the future reported."""
    office.ban("8.8.8.8", at=9e18)
    office.ban("8.8.8.8", at=-5)
    office.send()
    assert service.rows[0][2].timestamp() == NOON


# ---- what the service says


def test_the_rest_of_a_broken_off_report_is_sent_with_the_retry(
    office: Office, service: Service, http: HttpService
) -> None:
    """Three of five rows, then the day's limit: the retry reports the two, and the whole is reported."""
    service.left["/report"] = 3
    service.refused = {IPS[0]: "The ip must be a valid IP address."}
    office.ban(*IPS[:5])
    (outcome,) = office.send()
    assert (outcome.status, len(http.requests)) == ("deferred", 4)
    assert outcome.reason.startswith("3 of 5 rows reported, then 127.0.0.1:")
    assert "Daily rate limit of 1000 requests exceeded" in outcome.reason
    before = service.ips
    service.left["/report"] = 1000
    (outcome,) = office.retry()
    assert [parse_qs(request.body.decode())["ip"][0] for request in http.requests[4:]] == IPS[3:5]
    assert set(service.ips) - set(before) == set(IPS[3:5])
    assert outcome.status == "sent"
    assert "5 rows reported" in outcome.reason
    assert f"{IPS[0]}: The ip must be a valid IP address." in outcome.reason


def test_what_an_earlier_attempt_reported_is_known_to_the_next_digest(office: Office, service: Service) -> None:
    """Within 15 minutes of it, and not longer."""
    service.left["/report"] = 1
    office.ban(*IPS[:2])
    office.send()
    service.left["/report"] = 1000
    office.retry()
    office.ban(*IPS[:2])
    (outcome,) = office.send()
    assert outcome.reason == f"0 rows reported; reported less than 15 minutes ago: {IPS[0]}, {IPS[1]}"
    office.now += 700
    service.rows.clear()
    office.ban(*IPS[:2])
    office.send()
    assert IPS[0] in service.ips


@pytest.mark.slow
def test_a_bulk_report_goes_on_with_the_piece_that_failed(office: Office, service: Service) -> None:
    """11,000 rows are two files; when the second meets the day's limit, the retry sends that one alone."""
    service.left["/bulk-report"] = 1
    office.ban(*IPS[:11_000])
    service._known = lambda ip: False  # type: ignore[method-assign]  # 11,000 times 11,000 is a while
    (outcome,) = office.send()
    assert (outcome.status, [len(file) for file in service.files]) == ("deferred", [9_999])
    assert "9999 of 11000 rows reported, then " in outcome.reason
    service.left["/bulk-report"] = 5
    (outcome,) = office.retry()
    assert (outcome.status, outcome.reason) == ("sent", "11000 rows reported")
    assert [len(file) for file in service.files] == [9_999, 1_001]
    assert len(set(service.ips)) == len(service.rows) == 11_000


@pytest.mark.parametrize("count", [1, 25])
def test_an_address_that_the_service_has_is_a_success(office: Office, service: Service, count: int) -> None:
    """The 429 that means one address, and "Duplicate IP", are not tried again and not complained of."""
    office.ban(*IPS[:count])
    service.rows = [(IPS[0], "18", datetime.now().astimezone(), "")]
    (outcome,) = office.send()
    assert outcome.status == "sent"
    assert outcome.reason == f"{count} {'row' if count == 1 else 'rows'} reported"


def test_invalid_rows_are_shown_in_status(
    f2b_digest: Command, http: HttpService, service: Service, path: Path, config: Path
) -> None:
    """With the service's own message, beside the jails that were left out; nobody is mailed for it."""
    configured(config, http, f'key = "{KEY}"')
    service.refused = {IPS[3]: "Invalid IP", IPS[4]: f"Invalid Category {KEY}"}
    fill(path, [event(ip=ip) for ip in IPS[:30]] + [event(ip="8.8.4.4", jail="my-jail")])
    ended = f2b_digest("--config", config, "send")
    status = f2b_digest("--config", config, "status").out
    assert (ended.status, ended.out, ended.err) == (0, "", "")
    assert f"2 invalid ({IPS[3]}: Invalid IP, {IPS[4]}: Invalid Category ***)" in status
    assert "jails without a category: my-jail" in status


def test_a_bulk_answer_of_any_length_is_read(office: Office, service: Service) -> None:
    """It may name thousands of rows: what was taken is not reported again for an answer that was too long."""
    service.refused = dict.fromkeys(IPS[:3000], "Invalid IP")
    office.ban(*IPS[:3001])
    (outcome,) = office.send()
    assert (outcome.status, service.ips) == ("sent", [IPS[3000]])
    assert "3000 invalid" in outcome.reason


@pytest.mark.parametrize(
    ("answer", "permanent", "words"),
    [
        (errors(401, "Your API key is either missing, incorrect, or revoked."), True, "incorrect, or revoked"),
        (errors(422, "The categories field is required."), True, "categories field"),
        (errors(429, "Daily rate limit of 5 requests exceeded", Retry_After="60"), False, "Daily rate limit"),
        (Answer(429, b"<h1>slow down</h1>"), False, "429: slow down"),
        (Answer(302, b"moved", {"Location": "https://127.0.0.1:1/"}), True, "302"),
        (Answer(200, b"<!doctype html><title>Sign in</title>"), True, "not an AbuseIPDB response"),
        (Answer(200, b"[]"), True, "not an AbuseIPDB response"),
        (Answer(500, b""), False, "500"),
        (Answer(503, b"<html>Cloudflare</html>"), False, "Cloudflare"),
        (as_json(400, {"errors": None}), True, "400"),
        (as_json(400, {"errors": ["odd", {"detail": None, "source": "odd"}]}), True, "400"),
    ],
)
@pytest.mark.parametrize("count", [1, 20])
def test_a_refusal_of_all_leaves_all_to_report(
    office: Office, http: HttpService, answer: Answer, permanent: bool, words: str, count: int
) -> None:
    """With the service's own message; only what the admin can fix is for good."""
    http.script = lambda request: answer
    office.ban(*IPS[:count])
    (outcome,) = office.send()
    assert outcome.status == ("failed" if permanent else "deferred")
    assert words in outcome.reason
    ((body,),) = query(office.path, "SELECT message FROM delivery")
    assert len(json.loads(body)["rows"]) == count
    assert len(http.requests) == 1


@pytest.mark.parametrize("document", [{"data": []}, {"data": None}, {"data": {"invalidReports": [1, {}]}}])
def test_an_odd_answer_is_no_bug(office: Office, http: HttpService, document: Any) -> None:
    """What is in an answer beyond its data is read with care."""
    http.script = lambda request: as_json(200, document)
    office.ban(*IPS[:20])
    (outcome,) = office.send()
    assert outcome.status == "sent"


def test_the_deadline_keeps_what_was_done(
    office: Office, service: Service, monkeypatch: pytest.MonkeyPatch, http: HttpService
) -> None:
    """A service that becomes slow is left after two rows, and the retry begins with the third."""
    count = 0

    def slow(_self: AbuseIPDB, *arguments: Any) -> dict[str, Any]:
        nonlocal count
        count += 1
        if count == 3:
            raise Overdue("timed out after 120 s")
        return {}

    office.ban(*IPS[:5])
    with monkeypatch.context() as patched:
        patched.setattr(AbuseIPDB, "_post", slow)
        (outcome,) = office.send()
    assert outcome.reason == "2 of 5 rows reported, then timed out after 120 s"
    office.retry()
    assert service.ips == IPS[2:5]


# ---- secrets


def configured(config: Path, http: HttpService, key: str) -> None:
    """Write a configuration for the program."""
    text = config.read_text().partition("[reports.daily]")[0]
    text += f'[reports.daily]\nchannels = ["abuse"]\n[channels.abuse]\nkind = "abuseipdb"\nurl = "{http.url}"\n'
    config.write_text(f"{text}{key}\n")
    config.chmod(0o600)


@pytest.mark.parametrize("way", ["value", "file", "environment"])
@pytest.mark.parametrize("count", [5, 30])
def test_the_key_stays_where_it_is(
    f2b_digest: Command, http: HttpService, service: Service, path: Path, config: Path, way: str, count: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """It is used, and is in no error, no status and no byte of the store, although the service repeats it."""
    (config.parent / "abuse.key").write_text(KEY)
    monkeypatch.setenv("ABUSE_KEY", KEY)
    key = {"value": f'key = "{KEY}"', "file": 'key_file = "abuse.key"', "environment": 'key_env = "ABUSE_KEY"'}
    configured(config, http, key[way])
    service.left = {"/report": 2, "/bulk-report": 0}
    fill(path, [event(ip=ip) for ip in IPS[:count]])
    ended = f2b_digest("--config", config, "send")
    shown = ended.err + f2b_digest("--config", config, "status").out
    assert (ended.status, http.requests[0].headers["key"]) == (75, KEY)
    assert "exceeded for this endpoint. ***" in shown
    assert KEY[:20] not in shown
    assert KEY.encode() not in b"".join(file.read_bytes() for file in path.parent.glob("bans.sqlite3*"))


def test_a_variable_that_is_not_set_is_named_and_tried_again(
    f2b_digest: Command, http: HttpService, path: Path, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows wait until cron has its environment."""
    monkeypatch.delenv("ABUSE_KEY", raising=False)
    configured(config, http, 'key_env = "ABUSE_KEY"')
    fill(path, [event(ip=IPS[0])])
    ended = f2b_digest("--config", config, "send")
    assert (ended.status, "ABUSE_KEY" in ended.err, http.requests) == (75, True, [])


@pytest.mark.parametrize("key", ["s3cret€", "s3cret\nX-A: b"])
def test_a_key_that_no_header_can_carry_is_refused_unseen(http: HttpService, key: str) -> None:
    """It fails for good with a message that does not contain it."""
    with pytest.raises(DeliveryError) as caught:
        abuse(http, key=key).deliver(Message("", json.dumps({"rows": [["8.8.8.8"] * 4], "left_out": {}}).encode(), ""))
    assert caught.value.permanent
    assert "s3cret" not in caught.value.reason
    assert http.requests == []


# ---- comments


def test_matches_are_sent_only_on_request(office: Office, service: Service) -> None:
    """And then without names."""
    office.channel = office.channel.model_copy(update={"comment": "matches", "private": ("acme",)})
    office.ban("8.8.8.8", users=["bob"], matches="web1 sshd[99]: Failed password for bob from 8.8.8.8 port 22 at acme")
    office.send()
    assert "[…] sshd: Failed password for […] from 8.8.8.8 port 22 at […]" in service.rows[0][3]


GIVEAWAYS = [
    "Nov 19 12:00:01 web1 sshd[4711]: Failed password for invalid user hunter2 from 8.8.8.8 port 4242 ssh2",
    "Invalid user 'hunter2 hunter3' from 8.8.8.8",
    "sshd[4711]: Failed password for invalid user hunter2 hunter3 from 8.8.8.8 port 22 ssh2",
    'no user "hunter2" found, client: 8.8.8.8, server: shop.customer.example, request: "GET /x?tok=hunter2 HTTP/1.1"',
    "pam_unix(sshd:auth): authentication failure; logname= uid=0 euid=0 ruser= rhost=8.8.8.8 user=hunter2",
    "dovecot: auth: sql(hunter2,8.8.8.8): Password mismatch; user=<hunter2>, rip=8.8.8.8, lip=198.51.100.9",
    "auth-worker(12): pam(hunter2,8.8.8.8): unknown",
    "sasl_username=hunter2, client=unknown[8.8.8.8], to=<hunter2@mail.customer.example>, helo=<shop.customer.example>",
    "8.8.8.8 -> 198.51.100.9:443 addr:198.51.100.9 ::ffff:198.51.100.9 [198.51.100.9]",
    "8.8.8.8 to [2001:db8:1::5]:443 and addr:2001:db8:1::5: denied",
    "GET http://hunter2:hunter3@shop.customer.example/admin.php from 8.8.8.8",
    "8.8.8.8 Cookie: a=hunter2; b=hunter3",
    "8.8.8.8 Authorization: Basic aHVudGVyMg==",
    '8.8.8.8 {"password": "hunter2", "api_key":"hunter3"} passwd=hunter2&token=hunter3',
    "8.8.8.8 reset/ZXlKaGJHY2lPaUpJVXpJMU5pSjkhunter2",
    "8.8.8.8 stat /home/hunter2/.ssh ~hunter2/www",
    f"8.8.8.8 mail from {'h' * 190}unter2@customer.example",
    f"8.8.8.8 {'x ' * 460} {'u' * 60}.customer.example",
]


@pytest.mark.parametrize("line", GIVEAWAYS)
def test_a_comment_gives_nobody_away(line: str) -> None:
    """No user, host, own or third address, query, cookie, password or token; the reported address stays."""
    got = redacted(line, "8.8.8.8", ["web1"])
    for secret in ("hunter", "unter2", "web1", "customer", "198.51.100", "2001:db8", "tok=", "aHVud", "ZXlKa"):
        assert secret not in got
    assert "8.8.8.8" in got or "HTTP" in line or "for […]" in got
    assert len(got) <= 200


def test_what_happened_stays_in_the_comment() -> None:
    """Times, ports, paths and the program are what a report is for."""
    line = "2026-11-19 12:00:01 nginx: 2001:4860:4860::8888: GET /wp-login.php port 22"
    assert redacted(line, "2001:4860:4860::8888", ["web1"]) == line


def test_a_megabyte_of_matches_is_redacted_at_once() -> None:
    """An attacker chooses what is in a log line."""
    for text in ("a" * 1_000_000, "a@" * 500_000, "1.1." * 250_000, "::" * 500_000, "user=" * 200_000, "a.b" * 300_000):
        assert len(redacted(text, "8.8.8.8", ["web1"])) <= 200


HOSTILE = ['"', "\\", '\\"', "a\r\n8.8.4.4,18,,x", "\x00\x1b[31m", "🚨", "=HYPERLINK(1)", "@everyone", "\ud800", '","',
           "\r\n--f2b-digest-csv--\r\n", "x" * 100_000, "é" * 5000]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: repr(text)[:20])
@pytest.mark.parametrize("count", [1, 20])
def test_hostile_matches_stay_in_their_column(office: Office, service: Service, text: str, count: int) -> None:
    """One row for each address, four columns in each, whatever an attacker typed."""
    office.channel = office.channel.model_copy(update={"comment": "matches"})
    office.ban(*IPS[:count], matches=f"tried {text}", users=["root", "("])
    (outcome,) = office.send()
    assert (outcome.status, sorted(service.ips)) == ("sent", sorted(IPS[:count]))
    for _, categories, _, comment in service.rows:
        assert categories == "18,22"
        assert comment.startswith("fail2ban jail sshd")
        assert comment.isprintable()
        assert not {'"', "\\"} & set(comment)


def test_hostile_ids_are_no_rows(office: Office, http: HttpService) -> None:
    """fail2ban's id can be any text; status shows it short and harmless."""
    office.ban(*(text for text in HOSTILE if text))
    (outcome,) = office.send()
    assert (outcome.status, http.requests) == ("sent", [])
    assert outcome.reason.isprintable()
    assert len(outcome.reason) < 2000


# ---- files


def row_of(size: int) -> list[str]:
    """Return a row with so long a comment."""
    return ["8.8.8.8", "18,22", "2026-11-19T12:00:00+00:00", "x" * size]


@pytest.mark.parametrize(("count", "size"), [(9_999, 10), (10_000, 10), (25_000, 1), (5_000, 1000), (1, 1000)])
def test_pieces_keep_the_services_limits(count: int, size: int) -> None:
    """At most 10,000 lines with the header, and less than 2 MB; no row is lost or sent twice."""
    rows = [row_of(size)] * count
    made = list(pieces(rows))
    assert [row for piece in made for row in piece] == rows
    for piece in made:
        content = to_csv(piece)
        assert content.count(b"\n") <= BULK_LINES
        assert len(content) < BULK_BYTES
    assert len(made) <= -(-count // 9_999) + count * (size + 90) // BULK_BYTES


def test_a_dry_run_writes_what_would_be_reported(tmp_path: Path, path: Path, http: HttpService) -> None:
    """One CSV that grows, with one header, and no request; it needs no key."""
    file = tmp_path / "abuse.csv"
    office = Office(path, abuse(http, dry_run=True, dry_run_file=str(file)))
    for ips in (IPS[:3], IPS[3:30]):
        office.ban(*ips)
        (outcome,) = office.send()
        assert f"{len(ips)} rows written" in outcome.reason
    header, *rows = strict_csv(file.read_text())
    assert header[0] == "IP"
    assert sorted(row[0] for row in rows) == sorted(IPS[:30])
    assert http.requests == []


def test_a_dry_run_that_cannot_write_is_tried_again(tmp_path: Path, path: Path) -> None:
    """With the file's name."""
    office = Office(path, abuse(dry_run=True, dry_run_file=str(tmp_path / "none/abuse.csv")))
    office.ban("8.8.8.8")
    (outcome,) = office.send()
    assert (outcome.status, "none/abuse.csv" in outcome.reason) == ("deferred", True)


def test_a_preview_shows_the_rows(f2b_digest: Command, http: HttpService, path: Path, config: Path) -> None:
    """As the service would get them, and nobody does."""
    configured(config, http, f'key = "{KEY}"')
    fill(path, [event(ip="8.8.8.8", failures=3)])
    output = config.parent / "abuse.csv"
    assert f2b_digest("--config", config, "preview", "--channel", "abuse", "--output", output).status == 0
    (row,) = strict_csv(output.read_text())[1:]
    assert row[:3] == ["8.8.8.8", "18,22", "2026-11-19T12:00:00+00:00"]
    assert row[3].startswith("fail2ban jail sshd: 1x banned, 3 failures")
    assert http.requests == []


def test_a_service_that_is_down_is_tried_again(path: Path) -> None:
    """With all rows, once it is up."""
    with HttpService(says(200)) as gone:
        channel = abuse(gone)
    office = Office(path, channel)
    office.ban("8.8.8.8")
    (outcome,) = office.send()
    assert (outcome.status, "refused" in outcome.reason) == ("deferred", True)
