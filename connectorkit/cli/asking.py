"""Asking before something goes."""

from __future__ import annotations

import click

from connectorkit.cli.exits import FAILED, Failure

__all__ = ["confirm"]


def confirm(question: str, *, done: str) -> None:
    """Go on only if the user says so.

    Args:
        question: Whole, with its question mark.
        done: What was not done otherwise, as in "removed".

    Raises:
        click.UsageError: Nobody is there to answer.
        Failure: The answer is no.
    """
    try:
        if click.confirm(question, err=True):
            return
    except click.Abort as error:
        if isinstance(error.__context__, KeyboardInterrupt):
            raise
        click.echo(err=True)
        raise click.UsageError(
            "Nobody answers: pass --yes, and nobody is asked."
        ) from None
    raise Failure(f"Nothing was {done}.", FAILED)
