"""A session as a file: what happened in tables and topics, kept to be played again."""
