"""Live state as pandas sees it: the keyed table and its follower, the broadcast log, the presence table."""
