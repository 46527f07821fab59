"""Commands of many threads that go together: one trip for all that wait for it."""

from __future__ import annotations

import threading
from copy import copy
from typing import TYPE_CHECKING, Any, Final

from connectorkit.fork import renew_in_child

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Convoy"]

# So many go together at most, lest the first wait for all the others.
_MOST: Final = 64
_INTERRUPTED: Final = "The thread that asked for this one, too, was interrupted."
_UNANSWERED: Final = object()


class _Item:
    """A command of a thread, and what became of it."""

    __slots__ = ("along", "answer", "command", "error", "leads", "wake")

    def __init__(self, command: bytes) -> None:
        self.command = command
        self.answer: Any = _UNANSWERED
        self.error: Exception | None = None
        self.leads = False
        self.along: list[_Item] = []
        self.wake = threading.Lock()
        self.wake.acquire()


class Convoy:
    """Sends what threads ask for while a trip is under way by the next one.

    To send a command and to wait for its answer are half of what a slot costs a
    process, and a third of what it costs Redis: both pay once for each trip. Who comes
    when none is under way sets out at once; there is no thread for it.

    A thread may be interrupted at any call. Wherever that is, another one leads on, by
    its leave or once patience ends, and nobody is told that he has what he has not.

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
        self._inside: set[int] = set()

    def ask(self, command: bytes) -> Any:
        """Return the answer to a command; it may be an error."""
        item, me = _Item(command), threading.get_ident()
        # A signal's handler waits for nobody: this very thread might have to lead.
        is_within = me in self._inside
        try:
            self._inside.add(me)
            with self._lock:
                if self._is_under_way and not is_within:
                    self._waiting.append(item)
                else:
                    item.leads = self._is_under_way = True
            if not item.leads and not item.wake.acquire(timeout=self._patience):
                self._set_out_alone(item)
            if item.leads:
                self._lead(item)
        except BaseException:
            self._leave(item)
            raise
        finally:
            self._inside.discard(me)
        if item.answer is not _UNANSWERED:
            return item.answer
        error, item.error = item.error, None
        if error is None:
            raise self._lost(_INTERRUPTED)
        # Threads that raise the same one would write into each other's traceback.
        raise copy(error) from error

    def _lead(self, item: _Item) -> None:
        try:
            with self._lock:
                item.along += self._waiting[: _MOST - 1]
                del self._waiting[: _MOST - 1]
            batch = [item, *item.along]
            answers = self._exchange([each.command for each in batch])
            for each, answer in zip(batch, answers, strict=True):
                each.answer = answer
        except self._shared as error:
            self._fail(item, error)
            raise
        finally:
            self._arrive(item)

    def _fail(self, item: _Item, error: Exception) -> None:
        with self._lock:
            # Who has waited meanwhile has waited as long as it was to wait.
            item.along += self._waiting
            self._waiting.clear()
        for each in item.along:
            each.error = error

    def _arrive(self, item: _Item) -> None:
        """Wake who went along, and let another one lead, if anybody waits.

        Who was interrupted here does it again: signals come after calls only, and what
        is between two calls is done or not.
        """
        while item.along:
            each = item.along[-1]
            del item.along[-1]
            each.wake.release()
        with self._lock:
            item.leads = False
            if self._waiting:
                following = self._waiting[0]
                del self._waiting[0]
                following.leads = True
                following.wake.release()
            else:
                self._is_under_way = False

    def _set_out_alone(self, item: _Item) -> None:
        """Go without the one that leads: it was interrupted, perhaps, just there."""
        with self._lock:
            if item in self._waiting:
                item.leads = True
                self._waiting.remove(item)

    def _leave(self, item: _Item) -> None:
        """Wait no more: the caller was interrupted."""
        with self._lock:
            if item in self._waiting:
                self._waiting.remove(item)
        if item.leads or item.along:
            self._arrive(item)
