"""The worker roles that host identities: one process has their sessions, another their messages."""
