"""A digest cut to size: fewer rows, and what is left out counted. No text."""

from dataclasses import replace

from f2b_digest.model.digest import Digest, Jail, LeftOut


def cut(digest: Digest, jails: int, addresses: int) -> Digest:
    """Return the digest with at most so many jails, and addresses of each; what goes is counted in `left_out`."""
    gone = digest.jails[jails:]
    return replace(
        digest,
        jails=tuple(_cut_jail(jail, addresses) for jail in digest.jails[:jails]),
        left_out=LeftOut(
            jails=digest.left_out.jails + len(gone), bans=digest.left_out.bans + sum(jail.bans for jail in gone)
        ),
    )


def bare(digest: Digest) -> Digest:
    """Return the digest's totals and first facts, for a limit that no row and no section keeps."""
    rest = cut(digest, 0, 0)
    return replace(rest, facts=digest.facts[:3], several=(), campaigns=(), users=None, when=None, where=None, advice=())


def _cut_jail(jail: Jail, addresses: int) -> Jail:
    gone = jail.worst[addresses:]
    left_out = LeftOut(
        addresses=jail.left_out.addresses + len(gone), bans=jail.left_out.bans + sum(address.bans for address in gone)
    )
    return replace(jail, worst=jail.worst[:addresses], left_out=left_out)
