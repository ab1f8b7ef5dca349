"""RDAP lookups (RFC 9083): who holds an address or a network, and the contact for abuse reports.

The library whoisit (the extra f2b-digest[rdap]) chooses the registry and parses its responses. The requests are our
own: verified TLS, a size limit, one deadline for all. Every text in a response is untrusted.
"""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from ipaddress import IPv4Network, IPv6Network
from queue import Empty, SimpleQueue
from threading import Thread
from time import monotonic, time
from typing import Any
from urllib.parse import urljoin, urlsplit

from f2b_digest.channels import http, urls
from f2b_digest.channels.base import one_line
from f2b_digest.errors import DeliveryError, F2bDigestError
from f2b_digest.model.inquiry import Network, Registration

log = logging.getLogger(__name__)

DEADLINE = 10.0
"""Seconds for all lookups of one command."""
DIRECTORY = "https://data.iana.org/rdap/"
"""IANA's bootstrap files: which registry has which networks (RFC 9224)."""
LARGEST = 1 << 20
"""Maximum bytes of a response; typical ones have 10,000."""
MOST_REDIRECTS = 3
"""Registries redirect to the one that a network was transferred to."""
LONGEST = 100
"""Maximum characters of a name."""


class RdapError(F2bDigestError):
    """A lookup failed; the text is one line."""


def prepare() -> None:
    """Load the library before privileges are dropped. Raises RdapError if it is not installed."""
    try:
        import whoisit  # noqa: F401, PLC0415 - an optional extra
    except ImportError:
        raise RdapError('--rdap needs a library that is missing: pip install "f2b-digest[rdap]"') from None


class Registries:
    """Lookups that share one deadline, which starts now."""

    def __init__(self) -> None:
        self._until = monotonic() + DEADLINE
        self._directories: dict[int, Any] = {}

    def ask(self, network: Network) -> Registration:
        """Look up the holder of a network. Raises RdapError, for private and reserved networks without a request."""
        if not network.is_global or network.is_multicast:
            raise RdapError(f"{_text(network)} is private or reserved: no registry was asked")
        return _in_time(lambda: self._registration(network), self._until)

    def _registration(self, network: Network) -> Registration:
        from whoisit.parser import parse  # noqa: PLC0415
        from whoisit.query import QueryBuilder  # noqa: PLC0415

        directory = self._directories.get(network.version) or _directory(network.version)
        self._directories[network.version] = directory
        _, url, _ = QueryBuilder(directory).build("ip", _asked(network))
        return _understood(parse(directory, "ip", _text(network), _document(url)))


def _directory(version: int) -> Any:
    """Return whoisit's bootstrap data for one IP version: whoisit itself would download all five files."""
    from whoisit.bootstrap import Bootstrap  # noqa: PLC0415

    nothing: dict[str, Any] = {"services": [[[], []]]}
    files = dict.fromkeys(Bootstrap.BOOTSTRAP_URLS, nothing) | {
        f"ipv{version}": _document(urljoin(DIRECTORY, f"ipv{version}.json"))
    }
    directory = Bootstrap()
    directory.load_bootstrap_data({"timestamp": int(time()), **files}, from_json=False)
    return directory


def _asked(network: Network) -> Any:
    return network.network_address if network.num_addresses == 1 else network


def _text(network: Network) -> str:
    return str(_asked(network))


def _in_time(question: Callable[[], Registration], until: float) -> Registration:
    """Run a lookup in a thread, which is abandoned at the deadline (monotonic seconds). Raises RdapError."""
    answers: SimpleQueue[Registration | Exception] = SimpleQueue()

    def answer() -> None:
        """Put the answer, or the exception, where the other thread waits."""
        try:
            answers.put(question())
        except Exception as error:  # whatever whoisit makes of an unexpected response
            log.debug("the registry could not be asked", exc_info=True)
            answers.put(error)

    Thread(target=answer, daemon=True).start()
    try:
        found = answers.get(timeout=max(0.0, until - monotonic()))
    except Empty:
        raise RdapError(f"no answer of the registry within {DEADLINE:.0f} seconds") from None
    if isinstance(found, Registration):
        return found
    if isinstance(found, RdapError):
        raise found
    if isinstance(found, DeliveryError):
        raise RdapError(found.reason) from None
    log.info("an answer that whoisit does not understand", exc_info=found)
    raise RdapError("the registry's answer is not understood") from None


def _document(url: str) -> Any:
    """Fetch a JSON document. Raises RdapError or DeliveryError."""
    answer = _answer(url)
    host = urlsplit(url).netloc
    if answer.status == 404:
        raise RdapError(f"{host} does not know this network")
    if answer.status == 429:
        raise RdapError(f"{host} was asked too often: try again later")
    if answer.status != 200:
        raise RdapError(f"{host} answered with status {answer.status}")
    if len(answer.body) > LARGEST:
        raise RdapError(f"the answer of {host} is longer than {LARGEST:,} bytes")
    try:
        return json.loads(answer.body)
    except (ValueError, RecursionError):
        raise RdapError(f"the answer of {host} is no JSON") from None


def _answer(url: str) -> http.Answer:
    for _ in range(MOST_REDIRECTS + 1):
        try:
            scheme = urls.check_address(url).scheme
        except ValueError:
            scheme = ""
        if scheme != "https":
            raise RdapError("the registry sends on to an address that is not https")
        answer, _date = http.get(url, {"Accept": "application/rdap+json, application/json"}, most=LARGEST + 1)
        if not (300 <= answer.status < 400 and answer.location):
            return answer
        url = urljoin(url, answer.location)
    raise RdapError("the registries send from one to the other")


# ---- responses


def _understood(parsed: Mapping[str, Any]) -> Registration:
    """Return the registration. The holder is an organisation, else the network's name, else any registrant.

    Raises RdapError.
    """
    if parsed["type"] != "ip network":
        raise RdapError("the registry's answer is not about a network")
    entities = parsed["entities"]
    registrants = entities.get("registrant", ())
    organisations = [each for each in registrants if each.get("kind") == "org"]
    name = _clean(parsed.get("name"))
    holder = _first(organisations, "name") or name or _first(registrants, "name") or _clean(parsed.get("handle"))
    if not holder:
        raise RdapError("the registry names no holder")
    network = parsed.get("network")
    return Registration(
        holder=holder,
        abuse=_first(entities.get("abuse", ()), "email"),
        name=name,
        network=str(network) if isinstance(network, IPv4Network | IPv6Network) else "",
    )


def _first(entities: Sequence[Mapping[str, Any]], key: str) -> str:
    return next(filter(None, (_clean(each.get(key)) for each in entities)), "")


def _clean(text: object) -> str:
    """Return foreign text as one short line that a terminal can show."""
    return one_line(str(text or ""), LONGEST)
