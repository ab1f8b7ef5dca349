"""Cutting a digest to size: fewer rows, the rest counted. No text."""

from dataclasses import replace

from f2b_digest.model.digest import PERMANENT, Address, Digest, Jail, LeftOut

LONG = 86400
"""Seconds: a remaining ban time from which on an address is worth a line."""


def cut(digest: Digest, jails: int, addresses: int) -> Digest:
    """Return the digest with at most so many jails, and addresses of each; the rest is counted in `left_out`."""
    gone = digest.jails[jails:]
    return replace(
        digest,
        jails=tuple(_cut_jail(jail, addresses) for jail in digest.jails[:jails]),
        left_out=LeftOut(
            jails=digest.left_out.jails + len(gone), bans=digest.left_out.bans + sum(jail.bans for jail in gone)
        ),
    )


def condensed(digest: Digest) -> Digest:
    """Return the digest with the addresses only that are worth a line, as many as `Digest.shown` allows.

    Worth a line is an address that came back, is still banned and for a day at least, or was in several jails; each
    one, where there are few. As many jails as addresses of a jail have lines; they take turns, so that
    a busy one does not take those of all others.
    """
    if digest.shown is None:
        return digest
    several = {each.ip for each in digest.several}
    few = digest.totals.addresses <= digest.shown
    worth = [[each for each in jail.worst if few or _is_worth_a_line(each, digest, several)] for jail in digest.jails]
    rows, room = [0] * len(worth), 2 * digest.shown
    turns = [number for number, addresses in enumerate(worth) if addresses][: digest.shown]
    for place in range(digest.shown):
        for number in turns:
            if place < len(worth[number]) and room:
                rows[number], room = rows[number] + 1, room - 1
    chosen = ([*sorted(each, key=_rank, reverse=True)[:most]] for each, most in zip(worth, rows, strict=True))
    jails = tuple(_only(jail, kept, digest) for jail, kept in zip(digest.jails, chosen, strict=True))
    return replace(digest, jails=jails)


def _is_worth_a_line(address: Address, digest: Digest, several: set[str]) -> bool:
    long = address.bantime is not None and (address.bantime == PERMANENT or address.bantime >= LONG)
    back = address.bans > 1 or address.known_since is not None or address.ip in several
    return back or (long and _is_banned(address, digest))


def _is_banned(address: Address, digest: Digest) -> bool:
    """Return whether an address is banned beyond the digest's period, as far as known."""
    if address.lifted:
        return False
    return address.bantime == PERMANENT or (address.until is not None and address.until > digest.end)


def _rank(address: Address) -> tuple[int, bool, int]:
    return address.bans, address.known_since is not None, address.failures or 0


def _only(jail: Jail, kept: list[Address], digest: Digest) -> Jail:
    """Return a jail with some of its addresses; the others are counted."""
    gone = [each for each in jail.worst if each not in kept]
    known = not jail.left_out.addresses
    left_out = LeftOut(
        addresses=jail.left_out.addresses + len(gone),
        bans=jail.left_out.bans + sum(each.bans for each in gone),
        banned=sum(_is_banned(each, digest) for each in gone) if known else None,
    )
    return replace(jail, worst=tuple(kept), left_out=left_out)


def bare(digest: Digest) -> Digest:
    """Return the digest's totals and first facts, for limits too small for any row or section."""
    rest = cut(digest, 0, 0)
    return replace(
        rest, facts=digest.facts[:3], several=(), campaigns=(), users=None, when=None, where=None, never_banned=None,
        advice=(),
    )  # fmt: skip


def _cut_jail(jail: Jail, addresses: int) -> Jail:
    gone = jail.worst[addresses:]
    left_out = LeftOut(
        addresses=jail.left_out.addresses + len(gone), bans=jail.left_out.bans + sum(address.bans for address in gone)
    )
    return replace(jail, worst=jail.worst[:addresses], left_out=left_out)
