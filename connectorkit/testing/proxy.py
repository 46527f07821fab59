"""A proxy between a client and a storage that does what networks do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

from connectorkit.testing.exchange import Log
from connectorkit.testing.operations import known
from connectorkit.testing.rules import Rule, Rules, draw
from connectorkit.testing.server import Server
from connectorkit.testing.stalls import Stalls

if TYPE_CHECKING:
    from collections.abc import Sequence

    from connectorkit.testing.exchange import Exchange
    from connectorkit.testing.faults import Fault
    from connectorkit.testing.rules import When

__all__ = ["FaultProxy"]


class FaultProxy:
    """An HTTP/1.1 proxy before one server; it counts, and injects faults when told.

    ```python
    with FaultProxy("http://127.0.0.1:9000") as proxy:
        proxy.inject(ResetMidBody(at=0.5), when="get_object")
        ...  # a client with endpoint_url=proxy.url
        assert proxy.count("get_object") == 2
    ```

    It listens on this machine, in a thread of its own. Bodies stream through it in both
    directions, and connections stay alive. It passes the Host header on as the client
    sent it, which S3's signatures are computed over. What the server does to the
    proxy's connection, the proxy does to the client's: it makes up no answer of its
    own. A forked child may use its `url`, and nothing else of it.

    Args:
        target_url: The server: `http://host:port`.
        seed: What `random` draws by.

    Raises:
        ValueError: The address is none of HTTP, or goes on behind the port.
    """

    def __init__(self, target_url: str, *, seed: int | str = 0) -> None:
        parts = urlsplit(target_url)
        is_more = parts.path.strip("/") or parts.query or parts.username
        if parts.scheme != "http" or not parts.hostname or is_more:
            raise ValueError(f"{target_url!r} is not of the form 'http://host:port'.")
        self._target = (parts.hostname, parts.port or 80)
        self._seed = seed
        self._lots = 0
        self._log = Log()
        self._rules = Rules()
        self._stalls = Stalls()
        self._server: Server | None = None

    # Its life

    def start(self) -> None:
        """Listen; does nothing once it was started, closed or not."""
        if self._server is None:
            self._server = Server(self._target, self._log, self._rules, self._stalls)

    def close(self) -> None:
        """End all connections and the thread.

        Raises:
            ExceptionGroup: A function of the test's own failed: a condition, say.
        """
        self._stop()
        if self._server is not None and (failures := self._server.failures):
            self._server.failures = []
            raise ExceptionGroup("The proxy could not do what it was told", failures)

    def _stop(self) -> None:
        if self._server is not None:
            self._server.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            # The test's own error says more than what became of the proxy.
            self._stop()

    @property
    def url(self) -> str:
        """Its address, for clients; RuntimeError before the start."""
        return f"http://127.0.0.1:{self._running.port}"

    @property
    def _running(self) -> Server:
        if self._server is None:
            raise RuntimeError("The proxy was not started: with FaultProxy(...) as it.")
        return self._server

    # What it saw

    @property
    def log(self) -> list[Exchange]:
        """Every request since the start or `clear`, in order of arrival.

        Those under way are among them, with what is known by now. Who has an answer
        finds its request complete.
        """
        return self._log.exchanges()

    @property
    def requests(self) -> int:
        """How many requests arrived, whatever became of them."""
        return len(self._log)

    @property
    def connections(self) -> int:
        """How many connections clients made since the start."""
        return self._running.connections

    def count(
        self,
        operation: str | None = None,
        *,
        method: str | None = None,
        path: str | None = None,
    ) -> int:
        """Return how many requests fit.

        Args:
            operation: Their operation: `get_object`.
            method: Their method: `GET`.
            path: What stands somewhere in their decoded path.

        Raises:
            ValueError: There is no such operation, so it would be 0 for ever.
        """
        if operation is not None:
            known(operation)
        return sum(
            operation in {None, each.operation}
            and method in {None, each.method}
            and (path is None or path in each.path)
            for each in self.log
        )

    def clear(self) -> None:
        """Forget what was seen; the rules stay."""
        self._log.clear()

    # What it does

    def inject(
        self,
        fault: Fault,
        *,
        times: int | None = 1,
        when: When = None,
        after: int = 0,
    ) -> Rule:
        """Let a fault befall the next requests.

        Where several rules have a fault for a request, it meets that of the first.

        Args:
            fault: What is to happen.
            times: How often; None for ever.
            when: An operation (`get_object`) or a condition on the request; None for
                any request.
            after: How many of those requests go unharmed first.

        Returns:
            What counts how often it happened.

        Raises:
            ValueError: There is no such operation, or a number makes no sense.
        """
        rule = Rule(lambda: fault, times=times, when=when, after=after)
        return self._rules.add(rule)

    def random(
        self,
        rate: float,
        faults: Sequence[Fault],
        *,
        times: int | None = None,
        when: When = None,
        after: int = 0,
    ) -> Rule:
        """Let faults befall requests by lot.

        The n-th request of a rule fares the same whenever the seed is the same; which
        request is the n-th is up to the client, where it has several under way.

        Args:
            rate: The share of requests, from 0 to 1.
            faults: One of these, each as likely.
            times: How often at most; None for ever.
            when: As of `inject`.
            after: As of `inject`.

        Returns:
            What counts how often it happened.

        Raises:
            ValueError: An argument makes no sense.
        """
        self._lots += 1
        choose = draw(f"{self._seed}/{self._lots}", rate, tuple(faults))
        return self._rules.add(Rule(choose, times=times, when=when, after=after))

    def heal(self) -> None:
        """Remove all rules, and let go on what is stalled."""
        self._rules.clear()
        self.release()

    def release(self) -> None:
        """Let all go on that is stalled now."""
        self._stalls.release()

    @property
    def stalled(self) -> int:
        """How many requests are stalled now."""
        return len(self._stalls)

    def wait_stalled(self, count: int = 1, *, timeout: float = 10.0) -> None:
        """Wait until so many requests are stalled, so that no test has to sleep.

        Args:
            count: How many, exactly.
            timeout: Seconds until this gives up.

        Raises:
            TimeoutError: They are not.
        """
        if not self._stalls.wait_for(count, timeout):
            raise TimeoutError(
                f"{self.stalled} requests are stalled, not {count}, after {timeout} s."
            )

    def __repr__(self) -> str:
        where = self._server and f"at {self.url} "
        host, port = self._target
        return f"<FaultProxy {where or ''}before http://{host}:{port}>"
