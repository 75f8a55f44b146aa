"""Whether an endpoint is worth asking any further, by how the last prompts went."""

from __future__ import annotations

import threading

from fieldtune.llm.prompt import Reply

_FAILED_IN_A_ROW = 5
"""Prompts that failed one after the other, each after all its tries, from which the endpoint counts as gone."""
_LATE_IN_A_ROW = 2
"""The same for prompts that were never answered in time, where the endpoint has answered nothing yet."""
_USELESS_IN_A_ROW = 25
"""The same for answers that came, and were paid for, and were worth nothing."""


class Health:
    """Counts answers and failures of all threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.reached = False
        """Whether the endpoint ever reacted at all."""
        self.answered = 0
        """Prompts with an answer that is worth reading."""
        self._failed = self._useless = self._late = 0

    def good(self) -> None:
        with self._lock:
            self.answered += 1
            self._failed = self._useless = self._late = 0

    def bad(self, reply: Reply) -> int:
        """Count a prompt without an answer of use; how many in a row there are, 0 as long as asking may go on."""
        with self._lock:
            if reply.limit == "timeout_seconds":
                self._late += 1
                return self._late if self._late >= (_FAILED_IN_A_ROW if self.answered else _LATE_IN_A_ROW) else 0
            if reply.paid:
                self._useless += 1
                self._failed = 0  # it answers, for what that is worth
                return self._useless if self._useless >= _USELESS_IN_A_ROW else 0
            self._failed += 1
            return self._failed if self._failed >= _FAILED_IN_A_ROW else 0
