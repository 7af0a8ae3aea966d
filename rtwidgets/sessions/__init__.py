"""Sessions as files: records what happens in tables and topics, and replays it."""
