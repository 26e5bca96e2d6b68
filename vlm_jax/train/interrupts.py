"""SIGTERM and SIGINT as a question that every loop asks, so that a run saves and leaves by itself."""

import signal
import threading
from typing import Any


class Interrupted(Exception):
    """Raised by `poll`; the training loop turns it into a save and a clean return."""


class StopRequest:
    """While entered, the first SIGTERM or SIGINT sets `requested` to its name; a second SIGINT kills at once.

    Python runs a handler between two bytecodes: during one long compilation the signal waits for its end.
    Outside of the main thread nothing is installed and `requested` stays None.
    """

    def __init__(self) -> None:
        self.requested: str | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *exception: Any) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def poll(self) -> None:
        if self.requested is not None:
            raise Interrupted(self.requested)

    def _handle(self, number: int, frame: Any) -> None:
        self.requested = signal.Signals(number).name
        signal.signal(signal.SIGINT, signal.SIG_DFL)
