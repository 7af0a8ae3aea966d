"""Live state as pandas sees it: the keyed table and its engine, the broadcast log, the presence table."""
