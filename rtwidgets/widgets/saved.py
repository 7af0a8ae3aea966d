"""What a notebook keeps of a widget for readers without a kernel."""

from __future__ import annotations

import secrets
from datetime import datetime
from typing import Any

from .output_capture import WIDGET_VIEW


def saved_at() -> str:
    """Now, for people."""
    return datetime.now().astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")


def saved_html(shown: str) -> str:
    """The HTML with the time at which it was shown."""
    return f'{shown}<p style="opacity: .6">as of {saved_at()}; run the notebook to see it live</p>'


def new_model_id() -> str:
    """A model's id that is also a number which JavaScript holds exactly (see `prefer_static`)."""
    return str(secrets.randbelow(2**53 - 2**52) + 2**52)


def prefer_static(data: dict[str, Any]) -> None:
    """Makes nbconvert export the HTML of a mimebundle and not the widget, also where the notebook has widget state.

    nbconvert takes the widget if its state is stored under the model's id; such a page is empty without a network. A
    page looks the model up by the id as a property, where a number and its digits are the same; nbconvert does not find
    the number among the digits.
    """
    view = data.get(WIDGET_VIEW)
    if view is not None and str(view["model_id"]).isdecimal():
        data[WIDGET_VIEW] = {**view, "model_id": int(view["model_id"])}
