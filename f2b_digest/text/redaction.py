"""Redaction of log lines. No I/O here.

Two levels. For third parties (AbuseIPDB), names and other addresses are removed: `anonymous`. The admin sees
who tried what, but no secret, for a digest is forwarded and kept: `samples`.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address

from f2b_digest.model.host_context import AnyNetwork

HIDDEN = "[…]"
SAMPLES = 2
SAMPLE_LIMIT = 160
"""Characters."""
_LONGEST = 1000
"""Longest line prefix that is processed, in characters: an attacker chooses the length."""
_LONGEST_NAMED = 20_000
"""Longest line prefix in which known names are searched, in characters: a truncated name would not match."""
_VALUE = r"""(?:"[^"]*"|'[^']*'|<[^>]*>|[^\s,;&"'<>]+)"""
_REDACTIONS = tuple(
    (re.compile(pattern, re.IGNORECASE), replacement)
    for pattern, replacement in (
        (r"\b((?:set-)?cookie2?|authorization)([\"']?\s*[:=]).*", rf"\1\2 {HIDDEN}"),
        (r"\?[^\s\"']*", f"?{HIDDEN}"),
        (r"(?<![\w.+%-])[\w.+%-]++@[\w.-]+", HIDDEN),
        (rf"((?:pass\w*|pwd|token|secret|session\w*|sid|\wkey|auth)[\"']?\s?[=:]\s?)(?:(?:basic|bearer) )?{_VALUE}",
         rf"\1{HIDDEN}"),
        (r"\b(user |for ).*(?= from )", rf"\1{HIDDEN}"),
        ((r"(?<![^\W_])(user|login|ruser|logname|username|account|for)([\"']?(?:=|: ?| = | +))"
         rf"(?:(?:invalid |illegal )?user )?{_VALUE}"),
         rf"\1\2{HIDDEN}"),
        (r"\b(pam|sql|ldap|shadow|static|passwd-file)\([^,)]+", rf"\1({HIDDEN}"),
        (r"(/home/|~)[^/\s]+", rf"\1{HIDDEN}"),
        (r"(?<=://)[^/\s\"'?]+", HIDDEN),
        (r"(?<=\w)\[\d+\]", ""),
    )
)  # fmt: skip
_HOST_NAME = re.compile(r"(?<![\w./-])[\w-]++(?:\.[\w-]++)+\.?")
_IPV4 = re.compile(r"(?<!\d)(?<!\d\.)\d{1,3}(?:\.\d{1,3}){3}(?!\d|\.\d)")
_IPV6 = re.compile(r"[0-9a-f]{0,4}(?::[0-9a-f]{0,4}){2,8}", re.IGNORECASE)
_TIME = re.compile(r"(?:\d{4}:)?\d{1,2}:\d\d:\d\d")
_TOKEN = re.compile(r"\b[A-Za-z0-9+/_=-]{20,}")

# Hidden from the admin. A value ends at whitespace, as a password may contain any other character.
_SECRET_VALUE = r"""(?:"(?:[^"\\]|\\.)*"\S*|'(?:[^'\\]|\\.)*'\S*|<[^>]*>\S*|\S+)"""  # noqa: S105 - a pattern
_SECRETS = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"(?i)\b((?:set-)?cookie2?|(?:proxy-)?authorization)([\"']?\s*[:=]).*", rf"\1\2 {HIDDEN}"),
        (r"\?(?:.+(?= HTTP/)|[^\s)]\S*)", f"?{HIDDEN}"),
        (r"(?<=://)[^\s\"']+@", f"{HIDDEN}@"),
        ((r"(?i)((?:pass\w*|pwd|pw|token|secret|session\w*|sid|key|credentials?|otp|nonce)[\"']?\s?[=:]\s?)"
          rf"(?:(?:basic|bearer) )?{_SECRET_VALUE}"),
         rf"\1{HIDDEN}"),
        (r"\b([Bb]asic|[Bb]earer) (?=\S*[A-Z0-9=])\S{4,}", rf"\1 {HIDDEN}"),
    )
)  # fmt: skip
_ADDRESS = r"\[?[0-9A-Fa-f]*[:.][0-9A-Fa-f.:]+"
_REFUSED = r"(?-i:(?:was |is )?(?:not (?:found|in)\b|to access|password mismatch|authentication failure|denied))"
_INVALID = r"(?:(?:invalid|illegal) user )?"
_KEY = r"(?:user|username|account|login|ruser|logname)[\"']?"
_WORD = r"(?:user|username|account|for)"
_TRIED = tuple(
    re.compile(f"(?P<before>{before})(?P<name>{name})(?P<after>{after})", re.IGNORECASE)
    for before, name, after in (
        (r"\buser=<", r".*", r">(?=, \w+=)"),
        (r"\buser \"?", r".*", rf"\"?:? {_REFUSED}"),
        (rf"\b(?:user|for) {_INVALID}", r".*", rf" from | (?:by )?{_ADDRESS} port "),
        (rf"(?<![^\W_])(?:{_KEY}(?:=| = )|{_WORD}(?:[\"']?: ?| +)){_INVALID}", _VALUE, ""),
        (r"\b(?:pam|sql|ldap|shadow|static|passwd-file)\(", r"[^,)]+", ""),
        (r"\[pid \d+\] \[", r".*", r"\] (?:FAIL|OK) "),
        ("", r"(?<![\w.+%-])[\w.+%-]++@[\w.-]+", ""),
    )
)  # fmt: skip
_NAME = re.compile(r"[A-Za-z0-9._@-]{1,32}")
_WORDS = frozenset(
    (
        "a", "access", "an", "attempt", "attempts", "auth", "authenticating", "authentication", "by", "denied", "error",
        "failed", "failure", "for", "found", "from", "in", "incorrect", "invalid", "is", "list", "login", "method",
        "not", "of", "on", "or", "refused", "the", "this", "to", "unknown", "user", "was", "with",
    )
)  # fmt: skip
"""Words after "user" or "for" in a log that are not user names."""
_PIECE = re.compile(r"[^\s\"'<>()\[\]{},;=&|/]{8,}")
_NO_SECRET = re.compile(r"[A-Za-z-]+-\d+(?:\.\d+)+|SSH-\d\.\d+-[\w.-]+|[0-9A-Fa-f.]*(?::[0-9A-Fa-f.]*){2,}")
"""phpMyAdmin-2.8.2, an SSH client's version string, an address."""
_AROUND = re.compile(r"([\"'<(`]*)(.*?)([\"'>):`]*(?: (?:from|by|was|is|no such user found))?)")
"""A name, and what the greedy search matched around it."""
_LONG = re.compile(r"[A-Za-z0-9+_=-]{16,}")
_PLAIN_LONG = re.compile(
    r"(?:[A-Za-z][a-z]{0,15}|[A-Z]{1,15})(?:[_-]+(?:[A-Za-z][a-z]{0,15}|[A-Z]{1,15}|\d{1,4}))*[_-]*"
)
_ANY_IPV4 = re.compile(r"(?<!\d)(?=(\d{1,3}(?:\.\d{1,3}){3})(?!\d))")


def flat(text: str) -> str:
    """Return text as one line, without control characters."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def names(host: str) -> list[str]:
    """Return a host's full name, its short name and its domain."""
    short, _, domain = host.partition(".")
    return [host, short, domain] if "." in domain else [host, short]


def words(known: Sequence[str], *, apart_from_dots: bool = False) -> re.Pattern[str] | None:
    """Return a pattern that matches these words, ignoring case; with `apart_from_dots`, not within host names."""
    any_of = "|".join(re.escape(word) for word in sorted(filter(None, known), key=len, reverse=True))
    before, after = (r"(?<![\w.])", r"(?!\w|\.\w)") if apart_from_dots else (r"(?<!\w)", r"(?!\w)")
    return re.compile(f"{before}(?:{any_of}){after}", re.IGNORECASE) if any_of else None


# ---- for third parties


def anonymous(line: str, reported: str, known: Sequence[re.Pattern[str] | None]) -> str:
    """Return a log line without names, mail addresses, queries, tokens, and addresses other than the reported one.

    Truncate only afterwards: a truncated name or mail address would not be recognized.
    """
    line = flat(_whole_words(line))
    for word in filter(None, known):
        line = word.sub(HIDDEN, line)
    for pattern, replacement in _REDACTIONS:
        line = pattern.sub(replacement, line)
    line = _HOST_NAME.sub(_without_host, line)
    line = _IPV4.sub(lambda found: found[0] if found[0] == reported else HIDDEN, line)
    return _TOKEN.sub(HIDDEN, _IPV6.sub(lambda found: _without_ipv6(found[0], reported), line))


def _whole_words(line: str) -> str:
    return line if len(line) <= _LONGEST else line[:_LONGEST].rpartition(" ")[0]


def _without_host(found: re.Match[str]) -> str:
    last = found[0].rstrip(".").rpartition(".")[2]
    return HIDDEN if len(last) > 1 and not any(c.isdigit() for c in last) else found[0]


def _without_ipv6(text: str, reported: str) -> str:
    for candidate in (text, text[:-1]):  # "2001:db8::1: refused"
        try:
            if ip_address(candidate) == ip_address(reported):
                return text
        except ValueError:
            continue
    return text if _TIME.fullmatch(text) else HIDDEN


# ---- for the admin


def samples(
    lines: Iterable[tuple[str, str, Sequence[str]]], private: Sequence[str], own: Sequence[AnyNetwork]
) -> tuple[str, ...]:
    """Return a few log lines of at most `SAMPLE_LIMIT` characters, the last one of each address's matches.

    `lines` are addresses with their matches and the names that were tried, the worst first. A name that was tried stays
    if it looks like one, the address stays; secrets, `private` words and addresses of own networks are masked. A
    password that was typed as a name and looks like one ("hunter2") cannot be told from one, and stays.
    """
    found: dict[str, str] = {}
    for ip, matches, users in lines:
        last = matches.rstrip("\n").rpartition("\n")[2]
        sample = "" if ip in found else _sample(last, private, users, own)
        if sample and sample not in found.values():
            found[ip] = sample
        if len(found) == SAMPLES:
            break
    return tuple(found.values())


def _sample(line: str, private: Sequence[str], users: Sequence[str], own: Sequence[AnyNetwork]) -> str:
    tried = frozenset(filter(None, map(flat, users)))
    line = flat(line[:_LONGEST_NAMED])
    for known in (words([flat(word) for word in private]), words([name for name in tried if not _is_name(name)])):
        line = known.sub(HIDDEN, line) if known else line
    line = _whole_words(line)
    for pattern, replacement in _SECRETS:
        line = pattern.sub(replacement, line)
    for names_tried in _TRIED:
        line = names_tried.sub(_unless_a_name(tried), line)
    line = _PIECE.sub(_unless_a_password, line)
    line = _LONG.sub(lambda token: token[0] if _PLAIN_LONG.fullmatch(token[0]) else HIDDEN, line)
    line = _without_own(line, own)
    return line if len(line) <= SAMPLE_LIMIT else line[: SAMPLE_LIMIT - 1] + "…"


def _is_mixed(text: str) -> bool:
    """Return whether a text looks like a password: eight characters or more, upper and lower case and digits."""
    return len(text) >= 8 and all(any(map(kind, text)) for kind in (str.islower, str.isupper, str.isdigit))


def _is_name(text: str) -> bool:
    return bool(_NAME.fullmatch(text)) and not _is_mixed(text)


def _unless_a_password(found: re.Match[str]) -> str:
    return HIDDEN if _is_mixed(found[0]) and not _NO_SECRET.fullmatch(found[0]) else found[0]


def _unless_a_name(tried: frozenset[str]) -> Callable[[re.Match[str]], str]:
    def replaced(found: re.Match[str]) -> str:
        """Return the text with what stands at the place of a name masked, unless it is a name."""
        around = _AROUND.fullmatch(found["name"])
        assert around  # it matches any line
        name = around[2]
        stays = not name or name in _WORDS or name == HIDDEN or (name in tried and _is_name(name))
        return found["before"] + around[1] + (name if stays else HIDDEN) + around[3] + found["after"]

    return replaced


def _without_own(line: str, own: Sequence[AnyNetwork]) -> str:
    line = _IPV6.sub(lambda found: _without_own_ipv6(found[0], own), line)
    for network in own:  # whatever precedes it: "d:2001:db8::1" is another address
        if network.version == 6 and network.num_addresses == 1:
            text = re.escape(str(network.network_address))
            line = re.sub(rf"(?i)(?<![0-9a-f]){text}(?![0-9a-f]|:[0-9a-f])", HIDDEN, line)
    for found in reversed(list(_ANY_IPV4.finditer(line))):
        octets = [int(octet) for octet in found[1].split(".")]
        if max(octets) < 256 and _belongs(IPv4Address(bytes(octets)), own):
            line = line[: found.start()] + HIDDEN + line[found.end(1) :]
    return line


def _without_own_ipv6(text: str, own: Sequence[AnyNetwork]) -> str:
    known = False
    for candidate in (
        text,
        text.removesuffix(":"),
        text.strip(":"),
        text.rpartition(":")[0],
    ):  # end of a sentence, or before a port
        try:
            if _belongs(ip_address(candidate), own):
                return HIDDEN
            known = True
        except ValueError:
            continue
    return text if known or _TIME.fullmatch(text) or text.count(":") < 4 else HIDDEN


def _belongs(ip: IPv4Address | IPv6Address, own: Sequence[AnyNetwork]) -> bool:
    mapped = ip.ipv4_mapped if isinstance(ip, IPv6Address) else None
    return any(ip in network or (mapped is not None and mapped in network) for network in own)
