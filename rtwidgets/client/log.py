"""The logger `rtwidgets`, which never writes a key or a token."""

from __future__ import annotations

import logging

from ..protocol.errors import redact


class Redacting(logging.Filter):
    """Takes secrets out of what passes; on a handler, of whatever logger."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = redact(record.getMessage()), None
        if record.exc_info and not record.exc_text:
            record.exc_text = redact(logging.Formatter().formatException(record.exc_info))
        return True


def child(name: str) -> logging.Logger:
    """The logger of this name with the filter that takes secrets out: a logger's filters do not bind its children."""
    found = logging.getLogger(name)
    if not any(isinstance(known, Redacting) for known in found.filters):
        found.addFilter(Redacting())
    return found


logger = child("rtwidgets")
