"""What the doctor found: one finding a step, with the SQL or setting that fixes it."""

from __future__ import annotations

import html
import time
from collections.abc import Iterator
from typing import Literal

import msgspec

from rtwidgets.protocol.errors import RealtimeError, redact
from rtwidgets.protocol.sql_names import quote

_MARKS = {"ok": "✓", "warning": "!", "failed": "✗"}


class Finding(msgspec.Struct, omit_defaults=True):
    """One step: its result, and the SQL or setting that fixes it."""

    step: str
    status: Literal["ok", "warning", "failed"]
    detail: str
    fix: str = ""


class StepFailed(Exception):
    """A step that the later ones need has failed."""

    def __init__(self, step: str, detail: str, fix: str) -> None:
        super().__init__(detail)
        self.finding = Finding(step, "failed", redact(detail), fix)


class Report:
    """A list of findings, printed one a line."""

    def __init__(self, findings: list[Finding]) -> None:
        self.findings = findings

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.findings)

    def __len__(self) -> int:
        return len(self.findings)

    def __getitem__(self, at: int) -> Finding:
        return self.findings[at]

    @property
    def ok(self) -> bool:
        """Whether no step failed; a warning is no failure."""
        return all(finding.status != "failed" for finding in self.findings)

    def __repr__(self) -> str:
        return "\n".join(line for finding in self.findings for line in lines(finding))

    def _repr_html_(self) -> str:
        cell = '<td style="text-align:left; vertical-align:top">'
        rows = "".join(
            f"<tr>{cell}{_MARKS[finding.status]} {html.escape(finding.step)}</td>{cell}{html.escape(finding.detail)}"
            + (f"<br>fix: <code>{html.escape(finding.fix)}</code>" if finding.fix else "")
            + "</td></tr>"
            for finding in self.findings
        )
        return f"<table><tbody>{rows}</tbody></table>"

    def to_json(self) -> str:
        """A list of findings: step, status, detail and, where there is one, fix."""
        return msgspec.json.encode(self.findings).decode()


def lines(finding: Finding) -> list[str]:
    """A finding as text."""
    found = [f"{finding.status:8} {finding.step}: {finding.detail}"]
    return [*found, f"{'':8} -> {finding.fix}"] if finding.fix else found


def failed(step: str, error: RealtimeError | TimeoutError, fix: str, patience: float) -> StepFailed:
    """The failure of a step by an error of the client; `fix` where the error has no hint of its own."""
    if isinstance(error, RealtimeError) and error.code != "Timeout":
        return StepFailed(step, error.message, error.hint or fix)
    return StepFailed(step, f"nothing came within {patience:.0f} s", fix)


def skipped(step: str, error: ModuleNotFoundError) -> Finding:
    """A step that needs a package that is not installed."""
    return Finding(step, "warning", f"not tested: {error.name} is not installed", 'pip install "rtwidgets[local]"')


def quoted(*names: str) -> str:
    """A name as SQL writes it."""
    return ".".join(map(quote, names))


def elapsed(began: float) -> str:
    """Since that reading of the monotonic clock."""
    return f"{(time.monotonic() - began) * 1000:.1f} ms"


def span(seconds: float) -> str:
    """A time in the largest unit of which it has two."""
    for size, unit in ((365 * 86400, "years"), (86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
