"""Everything about fail2ban: client and server, its configuration and our lines in it, its database and logs."""
