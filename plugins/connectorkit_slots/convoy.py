"""Commands of many threads that go together: one trip for all that wait for it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Final

from connectorkit.fork import renew_in_child

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Convoy"]

# So many go together at most, lest the first wait for all the others.
_MOST: Final = 64
_INTERRUPTED: Final = "The thread that asked for this one, too, was interrupted."


class _Item:
    """A command of a thread, and what became of it."""

    __slots__ = ("answer", "command", "error", "leads", "wake")

    def __init__(self, command: bytes) -> None:
        self.command = command
        self.answer: Any = None
        self.error: BaseException | None = None
        self.leads = False
        self.wake: threading.Lock | None = None


class Convoy:
    """Sends what threads ask for while a trip is under way by the next one.

    To send a command and to wait for its answer are half of what a slot costs a
    process, and a third of what it costs Redis: both pay once for each trip. Who comes
    when none is under way sets out at once; there is no thread for it.

    Args:
        exchange: Sends commands and returns their answers, each of which may be an
            error.
        patience: Seconds after which a trip counts as lost.
        shared: An error of this class is that of all who are in the trip.
        lost: Makes the error of those whose trip ended by another one.
    """

    def __init__(
        self,
        exchange: Callable[[Sequence[bytes]], list[Any]],
        patience: float,
        shared: type[Exception],
        lost: Callable[[str], Exception],
    ) -> None:
        self._exchange = exchange
        self._patience = patience
        self._shared = shared
        self._lost = lost
        self.after_fork()
        renew_in_child(self)

    def after_fork(self) -> None:
        """Wait for nobody: who is under way is in the parent."""
        # A signal's handler may ask for something, too.
        self._lock = threading.RLock()
        self._waiting: list[_Item] = []
        self._is_under_way = False

    def ask(self, command: bytes) -> Any:
        """Return the answer to a command; it may be an error."""
        item = _Item(command)
        with self._lock:
            if self._is_under_way:
                item.wake = threading.Lock()
                item.wake.acquire()
                self._waiting.append(item)
            else:
                self._is_under_way = item.leads = True
        try:
            if item.wake is not None and not item.wake.acquire(timeout=self._patience):
                self._set_out_alone(item)
            if item.leads:
                self._lead(item)
        except BaseException:
            self._leave(item)
            raise
        if item.error is not None:
            raise item.error
        return item.answer

    def _lead(self, item: _Item) -> None:
        batch = [item]
        try:
            with self._lock:
                batch += self._waiting[: _MOST - 1]
                del self._waiting[: _MOST - 1]
            answers = self._exchange([each.command for each in batch])
            for each, answer in zip(batch, answers, strict=True):
                each.answer = answer
        except BaseException as error:
            with self._lock:
                # Who has waited meanwhile has waited as long as it was to wait.
                batch += self._waiting
                self._waiting.clear()
            is_shared = isinstance(error, self._shared)
            for each in batch:
                each.error = error if is_shared else self._lost(_INTERRUPTED)
            raise
        finally:
            for each in batch:
                if each.wake is not None and each is not item:
                    each.wake.release()
            self._pass_on(item)

    def _pass_on(self, item: _Item) -> None:
        """Let another one lead the next trip, if anybody waits for it."""
        with self._lock:
            item.leads = False
            following = self._waiting.pop(0) if self._waiting else None
            if following is None:
                self._is_under_way = False
            else:
                following.leads = True
        if following is not None and following.wake is not None:
            following.wake.release()

    def _set_out_alone(self, item: _Item) -> None:
        """Go without the one that leads: it was interrupted, perhaps, just there."""
        with self._lock:
            if item in self._waiting:
                self._waiting.remove(item)
                item.leads = True
            elif not item.leads and item.answer is None:
                item.error = item.error or self._lost(_INTERRUPTED)

    def _leave(self, item: _Item) -> None:
        """Wait no more: the caller was interrupted."""
        with self._lock:
            if item in self._waiting:
                self._waiting.remove(item)
        if item.leads:
            self._pass_on(item)
