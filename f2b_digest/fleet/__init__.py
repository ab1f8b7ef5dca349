"""Many hosts and their centre: enrolment, the upload of a host's events, the centre's schema. psycopg only in here.

Nothing is printed, and no digest is made here. `fleet.forward` is a host's end of the protocol whose other end is the
two functions of `sql/`; what a host remembers of it is kept in its store (`f2b_digest.store.Uploads`).
"""
