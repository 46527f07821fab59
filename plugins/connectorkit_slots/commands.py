"""`connectorkit slots`: look at slots, and set them right."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from typing import TYPE_CHECKING, Any, Final, Literal

import click

from connectorkit.cli import output
from connectorkit.cli.asking import confirm
from connectorkit.cli.common import common, with_session
from connectorkit.cli.exits import DENIED, FAILED, TRY_AGAIN, Failure
from connectorkit.cli.output import Column
from connectorkit.cli.places import sentence
from connectorkit.config import reveal
from connectorkit.errors import ConfigError, ConnectorKitError
from connectorkit_slots.errors import SlotsUnavailable
from connectorkit_slots.keys import Keys
from connectorkit_slots.limiter import SlotLimiter
from connectorkit_slots.store import Away, Store, client_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from connectorkit.cli.session import Session
    from connectorkit_slots.options import SlotOptions
    from connectorkit_slots.slot import Usage

__all__ = ["slots"]

_VARIABLE: Final = "CONNECTORKIT_SLOTS_URL"
# Seconds for an answer: who types waits longer than an execution may.
_BUDGET: Final = 5.0
_MINUTE, _HOUR, _DAY = 60, 3600, 86_400


def _age(seconds: float) -> str:
    """Return an age for people."""
    for unit, name in ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "min")):
        if seconds >= unit:
            return f"{seconds / unit:.1f} {name}"
    return f"{seconds:.0f} s"


_COLUMNS: Final = (
    Column("organization", style="bold", fold=False),
    Column("used", justify="right", fold=False),
    Column("limit", justify="right", fold=False),
    Column("oldest", justify="right", fold=False, human=_age),
)


@click.group()
@common()
def slots() -> None:
    """Look at the slots of organizations, and set them right.

    Redis is asked, whatever programs use it. A limiter that has a namespace, or the
    names of the source system, is found by --namespace or --names.
    """


def limiting(function: Callable[..., None]) -> Callable[..., None]:
    """Take the options that say which limiter is meant, and pass it on."""

    @functools.wraps(function)
    def run(session: Session, **given: Any) -> None:
        url = _url(session, given.pop("url"))
        which = {name: given.pop(name) for name in ("cluster", "namespace", "names")}
        with _telling_of_redis(), _limiter(url, **which) as limiter:
            function(session, limiter, **given)

    for option in (
        click.option(
            "--names",
            type=click.Choice(["own", "source"]),
            default="own",
            show_default=True,
            help="Of its keys; source: api_deployment:rate_limit:…",
        ),
        click.option(
            "--namespace", default="slots", show_default=True, help="Of the limiter."
        ),
        click.option("--cluster", is_flag=True, help="The URL is of a Redis Cluster."),
        click.option(
            "--url",
            metavar="URL",
            envvar=_VARIABLE,
            show_envvar=True,
            help="Of Redis, or where it stands: env:NAME, file:PATH. By default that "
            "of the policy slots in the configuration.",
        ),
        common(),
    ):
        run = option(run)
    return with_session(run)


@slots.command()
@click.argument("org")
@limiting
def show(session: Session, limiter: SlotLimiter, *, org: str) -> None:
    """Show how far ORG uses its slots.

    Writes nothing. The limit is the one that `set` has stored: another one is known
    only to the programs that go by it.
    """
    usage = limiter.usage(org)
    if session.as_json:
        output.document(usage)
    else:
        rows = zip(_COLUMNS, _row(usage), strict=True)
        is_plain = not sys.stdout.isatty()
        output.record(
            (its.title, value if value is None or is_plain else its.cell(value))
            for its, value in rows
        )


@slots.command("list")
@limiting
def list_(session: Session, limiter: SlotLimiter) -> None:
    """List the organizations that have a slot.

    Writes nothing. Limits are those that `set` has stored.
    """
    usages = limiter.usages()
    if session.as_json:
        output.document(usages)
    else:
        output.table(_COLUMNS, map(_row, usages))


@slots.command("set")
@click.argument("org")
@click.argument("limit", metavar="N", type=click.IntRange(1))
@limiting
def set_(session: Session, limiter: SlotLimiter, *, org: str, limit: int) -> None:
    """Give ORG a limit of N slots.

    It holds in all programs, whatever they say themselves; slots in use stay so.
    """
    limiter.set_limit(org, limit)
    _done(session, {"organization": org, "limit": limit})


@slots.command()
@click.argument("org")
@limiting
def unset(session: Session, limiter: SlotLimiter, *, org: str) -> None:
    """Forget the limit that was set for ORG.

    What the programs say holds again.
    """
    limiter.set_limit(org, None)
    _done(session, {"organization": org, "limit": None})


@slots.command()
@click.argument("org")
@click.argument("execution_id", metavar="ID")
@limiting
def release(
    session: Session, limiter: SlotLimiter, *, org: str, execution_id: str
) -> None:
    """Take the slot of ORG's execution ID back.

    Whoever holds it learns that it is lost. That there is none is no error.
    """
    released = limiter.release(org, execution_id)
    told = {"organization": org, "execution": execution_id, "released": released}
    _done(session, told)


@slots.command()
@click.argument("org")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@limiting
def clear(session: Session, limiter: SlotLimiter, *, org: str, yes: bool) -> None:
    """Take all slots of ORG back.

    Whoever holds one learns that it is lost, and others get it at once.
    """
    used = limiter.usage(org).used
    if used and not yes:
        what = "the one slot" if used == 1 else f"all {used} slots"
        confirm(f"Take {what} of {output.one_line(org)} back?", done="cleared")
    _done(session, {"organization": org, "cleared": limiter.clear(org)})


@contextlib.contextmanager
def _limiter(
    url: str, *, cluster: bool, namespace: str, names: Literal["own", "source"]
) -> Iterator[SlotLimiter]:
    """Make a limiter of the scheme that the programs use there."""
    keys = Keys.source() if names == "source" else Keys.own(namespace)
    with contextlib.closing(client_of(url, _BUDGET, is_cluster=cluster)) as client:
        try:
            noted = Store(client).command("HGET", keys.state, "scheme")
        except Away as error:
            raise SlotsUnavailable("Redis is away.") from error.__cause__
        text = noted.decode() if isinstance(noted, bytes) else noted or ""
        scheme, _, cutoff = text.partition(" ")
        # What is said here is true, or an error.
        options: SlotOptions = {
            "namespace": namespace,
            "names": names,
            "on_error": "closed",
        }
        if scheme == "started":
            options |= {"scheme": "started", "stale_cutoff": float(cutoff)}
        elif names == "source":
            options |= {"scheme": "started"}
        with SlotLimiter(client, **options) as limiter:
            yield limiter


def _url(session: Session, given: str | None) -> str:
    """Return the URL that was given, or that of the policy in the configuration."""
    table = session.kit.config.policies.tables.get("slots", {})
    url = given or table.get("url")
    if not isinstance(url, str):
        raise ConfigError(
            f"No Redis is named: pass --url, set {_VARIABLE}, or configure the policy "
            "slots in [policies]."
        )
    try:
        return str(reveal({"url": url}, os.environ)["url"])
    except ConfigError as error:
        raise ConfigError(f"{error}.") from None


@contextlib.contextmanager
def _telling_of_redis() -> Iterator[None]:
    """Tell in a sentence what Redis says no to."""
    try:
        yield
    except SlotsUnavailable as error:
        why = sentence(error.__cause__ or error)
        raise Failure(f"Redis is away: {why}.", TRY_AGAIN) from error
    except ConnectorKitError:
        raise
    except (TypeError, ValueError) as error:
        # Of what was given; a server's answer is neither.
        raise click.UsageError(str(error)) from error
    except Exception as error:
        if not type(error).__module__.startswith("redis."):
            raise
        is_denied = "Auth" in type(error).__name__ or "Perm" in type(error).__name__
        code = DENIED if is_denied else FAILED
        raise Failure(f"Redis says: {sentence(error)}.", code) from error


def _done(session: Session, told: dict[str, object]) -> None:
    if session.as_json:
        output.document(told)
    else:
        output.record(told.items())


def _row(usage: Usage) -> tuple[object, ...]:
    oldest = None if usage.oldest is None else round(usage.oldest, 1)
    return usage.organization, usage.used, usage.limit, oldest
