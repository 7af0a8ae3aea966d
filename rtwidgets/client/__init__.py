"""Drives the protocol over a socket: the asyncio client, REST snapshots, the I/O thread, and the traitlets face."""
