"""The embedded default: a real Postgres and a realtime server, on this machine. Start it with `rtwidgets.local()`."""
