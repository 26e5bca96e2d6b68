"""SIGTERM and SIGINT as a question that every loop asks, so that a run saves and leaves by itself."""

import os
import signal
import sys
import threading
from typing import Any


class Interrupted(Exception):
    """Raised by `poll`; the training loop turns it into a save and a clean return."""


class StopRequest:
    """While entered, the first SIGTERM or SIGINT sets `requested` to its name; a second SIGINT ends the process at
    once with status 130, in a notebook by KeyboardInterrupt.

    Python runs a handler between two bytecodes, which a long compilation has none of. So a thread counts the
    signals as well. Outside of the main thread nothing is installed and `requested` stays None.
    """

    def __init__(self) -> None:
        self.requested: str | None = None
        self._previous: dict[int, Any] = {}
        self._interrupts = 0
        self._interactive = hasattr(sys, "ps1") or "ipykernel" in sys.modules

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():
            self._read, self._write = os.pipe()
            os.set_blocking(self._write, False)
            self._previous_wakeup = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
            for number in (signal.SIGTERM, signal.SIGINT):
                self._previous[number] = signal.signal(number, self._handle)
            self._thread = threading.Thread(target=self._watch, daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *exception: Any) -> None:
        if not self._previous:
            return
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._previous_wakeup)
        os.close(self._write)
        self._thread.join()
        os.close(self._read)

    def poll(self) -> None:
        """Raises Interrupted once a signal has come."""
        if self.requested is not None:
            raise Interrupted(self.requested)

    def _handle(self, number: int, frame: Any) -> None:
        if self._interactive and number == signal.SIGINT and self.requested == "SIGINT":
            raise KeyboardInterrupt
        self.requested = signal.Signals(number).name

    def _watch(self) -> None:
        """Gets one byte a signal, when it comes."""
        while arrived := os.read(self._read, 64):
            self._interrupts += arrived.count(signal.SIGINT)
            if self._interrupts > 1 and not self._interactive:
                os._exit(128 + signal.SIGINT)
