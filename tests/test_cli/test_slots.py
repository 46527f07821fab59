"""`connectorkit slots`: what it shows is so, and to look changes nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from textwrap import dedent
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from redis import Redis

from connectorkit import ConnectorKit
from connectorkit.cli import exits
from connectorkit_slots import SlotLimiter
from servers import RedisServer, free_port
from test_cli.support import PROGRAM, SECRET, only_line

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from test_cli.support import Cli


@pytest.fixture
def url(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> str:
    """Name a Redis in the environment."""
    monkeypatch.setenv("CONNECTORKIT_SLOTS_URL", redis_server.endpoint_url)
    return redis_server.endpoint_url


@pytest.fixture
def space(url: str) -> str:
    """Name a namespace of this test's own."""
    assert url
    return uuid4().hex


@pytest.fixture
def limiter(url: str, space: str) -> Iterator[SlotLimiter]:
    """Make a limiter there, as programs have it."""
    with SlotLimiter.from_url(url, namespace=space, org_limit=5) as limiter:
        yield limiter


def written(url: str) -> dict[str, Any]:
    """Return how often each command that may write was called, and all that is there.

    A script's own commands count, too.
    """
    with Redis.from_url(url, protocol=2) as client:
        stats: dict[str, dict[str, Any]] = client.info("commandstats")
        reading = {"time", "zcount", "zscore", "zrangebyscore", "hget", "hmget"}
        harmless = reading | {"evalsha", "eval", "info", "client", "scan", "dump"}
        calls = {
            name.removeprefix("cmdstat_"): it["calls"] for name, it in stats.items()
        }
        content = {key: client.dump(key) for key in client.scan_iter()}
        return {
            "calls": {k: v for k, v in calls.items() if k not in harmless}
        } | content


# Looking


def test_show(cli: Cli, limiter: SlotLimiter, space: str) -> None:
    """How many slots are used, the stored limit, and how old the oldest is."""
    limiter.acquire("org_42", "one")
    limiter.acquire("org_42", "two")
    limiter.set_limit("org_42", 7)
    result = cli("slots", "show", "org_42", "--namespace", space)
    assert result.exit_code == exits.OK
    facts = dict(line.split("\t") for line in result.stdout.splitlines())
    assert float(facts.pop("oldest")) < 60
    assert facts == {"organization": "org_42", "used": "2", "limit": "7"}


def test_show_as_json(cli: Cli, limiter: SlotLimiter, space: str) -> None:
    """One document, with no limit where none is stored."""
    limiter.acquire("org_42", "one")
    told = json.loads(
        cli("slots", "show", "org_42", "--namespace", space, "--json").stdout
    )
    assert 0 <= told.pop("oldest") < 60
    assert told == {"organization": "org_42", "used": 1, "limit": None}


def test_show_of_nobody(cli: Cli, space: str) -> None:
    """An organisation that was never heard of uses no slot."""
    told = json.loads(
        cli("slots", "show", "nobody", "--namespace", space, "--json").stdout
    )
    assert told == {"organization": "nobody", "used": 0, "limit": None, "oldest": None}


def test_list(cli: Cli, limiter: SlotLimiter, space: str) -> None:
    """Each organisation that has a slot is told once."""
    for org in ("org_1", "org_1", "org_2"):
        limiter.acquire(org, uuid4())
    result = cli("slots", "list", "--namespace", space)
    rows = sorted(line.split("\t")[:2] for line in result.stdout.splitlines())
    assert rows == [["org_1", "2"], ["org_2", "1"]]
    told = json.loads(cli("slots", "list", "--namespace", space, "--json").stdout)
    assert {each["organization"]: each["used"] for each in told} == {
        "org_1": 2,
        "org_2": 1,
    }


@pytest.mark.parametrize("names", ["own", "source"])
def test_looking_writes_nothing(cli: Cli, names: str) -> None:
    """No command that writes reaches Redis, not even for what has lapsed.

    Not for a limiter that begins, either: nothing is there afterwards.
    """
    with RedisServer() as server:
        url = server.endpoint_url
        looks = [
            ("slots", "show", "org_42", "--url", url, "--names", names),
            ("slots", "list", "--url", url, "--names", names),
        ]
        before = written(url)
        for look in looks:
            assert cli(*look).exit_code == exits.OK
        assert written(url) == before
        options: dict[str, Any] = {"names": "own", "lease": 0.01}
        if names == "source":
            options = {"names": "source", "scheme": "started", "stale_cutoff": 0.01}
        with SlotLimiter.from_url(url, **options) as limiter:
            limiter.acquire("org_42", "lapsed")
        before = written(url)
        for look in looks:
            assert cli(*look).exit_code == exits.OK
        assert written(url) == before


def test_the_sources_names(cli: Cli) -> None:
    """Slots that the source system's own code has taken are seen by its names."""
    with RedisServer() as server, Redis.from_url(server.endpoint_url) as client:
        seconds, micros = client.time()
        for key in ("org:org_42", "global"):
            mine = {"execution": seconds + micros / 1e6}
            client.zadd(f"api_deployment:rate_limit:{key}", mine)
        options = ("--url", server.endpoint_url, "--names", "source", "--json")
        told = json.loads(cli("slots", "show", "org_42", *options).stdout)
        assert told["used"] == 1
        told = json.loads(
            cli("slots", "release", "org_42", "execution", *options).stdout
        )
        assert told["released"]
        assert client.zcard("api_deployment:rate_limit:org:org_42") == 0
        assert client.zcard("api_deployment:rate_limit:global") == 0


# Setting right


def test_set_and_unset(cli: Cli, limiter: SlotLimiter, space: str) -> None:
    """A limit that is set goes over what programs say, until it is unset."""
    assert limiter.usage("org_42").limit == 5
    told = cli("slots", "set", "org_42", 9, "--namespace", space, "--json").stdout
    assert json.loads(told) == {"organization": "org_42", "limit": 9}
    assert limiter.usage("org_42").limit == 9
    assert cli("slots", "unset", "org_42", "--namespace", space).exit_code == exits.OK
    assert limiter.usage("org_42").limit == 5


@pytest.mark.parametrize("limit", ["0", "-1", "many", "1.5", "1000000001"])
def test_set_takes_whole_numbers(cli: Cli, space: str, limit: str) -> None:
    """What is no limit is a mistake of the command line."""
    result = cli("slots", "set", "--namespace", space, "--", "org_42", limit)
    assert result.exit_code == exits.USAGE


@pytest.mark.parametrize("names", ["own", "source"])
def test_start_times(cli: Cli, url: str, space: str, names: Any) -> None:
    """It goes by the scheme and the cutoff of the programs, which Redis knows."""
    options: Any = {"scheme": "started", "names": names, "stale_cutoff": 7200}
    given = ("--namespace", space, "--names", names)
    with SlotLimiter.from_url(url, namespace=space, **options) as programs:
        programs.acquire(f"{space}!", "a")
        programs.acquire(f"{space}!", "b")
        shown = cli("slots", "show", f"{space}!", "--json", *given).stdout
        assert json.loads(shown)["used"] == 2
        asked = cli("slots", "clear", f"{space}!", *given, stdin="n\n")
        assert "all 2 slots" in asked.stderr
        assert programs.usage(f"{space}!").used == 2
        cli("slots", "clear", f"{space}!", "--yes", *given)
        assert programs.usage(f"{space}!").used == 0


def test_a_cluster(cli: Cli, redis_cluster: RedisServer) -> None:
    """Slots of a cluster are asked for at any of its nodes."""
    address = ("--cluster", "--url", redis_cluster.endpoint_url)
    assert cli("slots", "set", "org_42", "3", *address).exit_code == exits.OK
    shown = cli("slots", "show", "org_42", "--json", *address).stdout
    assert json.loads(shown)["limit"] == 3
    assert cli("slots", "unset", "org_42", *address).exit_code == exits.OK


def test_release(cli: Cli, limiter: SlotLimiter, space: str) -> None:
    """One slot goes; to do it again is no error."""
    limiter.acquire("org_42", "one")
    limiter.acquire("org_42", "two")
    args = ("slots", "release", "org_42", "one", "--namespace", space, "--json")
    assert json.loads(cli(*args).stdout)["released"] is True
    assert json.loads(cli(*args).stdout)["released"] is False
    assert limiter.usage("org_42").used == 1


def test_clear_asks(cli: Cli, limiter: SlotLimiter, space: str) -> None:
    """It says how many slots go, and takes no, or no answer, for a no."""
    limiter.acquire("org_42", "one")
    limiter.acquire("org_43", "two")
    args = ("slots", "clear", "org_42", "--namespace", space)
    refused = cli(*args, stdin="n\n")
    assert "the one slot of org_42" in refused.stderr
    assert refused.exit_code == exits.FAILED
    unanswered = cli(*args, stdin="")
    assert unanswered.exit_code == exits.USAGE
    assert "--yes" in unanswered.stderr
    assert limiter.usage("org_42").used == 1
    assert cli(*args, stdin="y\n").exit_code == exits.OK
    assert limiter.usage("org_42").used == 0
    assert limiter.usage("org_43").used == 1
    nothing_to_ask = cli(*args, stdin="")
    assert nothing_to_ask.exit_code == exits.OK


def test_clear_with_yes(cli: Cli, limiter: SlotLimiter, space: str) -> None:
    """`--yes` does not ask, and says how many went."""
    limiter.acquire("org_42", "one")
    limiter.acquire("org_42", "two")
    result = cli("slots", "clear", "org_42", "--namespace", space, "--yes", "--json")
    assert json.loads(result.stdout) == {"organization": "org_42", "cleared": 2}


# Which Redis


@pytest.mark.usefixtures("config")
def test_no_redis_is_named(cli: Cli) -> None:
    """It says the three ways to name one."""
    result = cli("slots", "list")
    assert result.exit_code == exits.CONFIG
    line = only_line(result)
    for way in ("--url", "CONNECTORKIT_SLOTS_URL", "[policies]"):
        assert way in line


def test_the_configurations_redis(
    cli: Cli,
    config: Path,
    redis_server: RedisServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The policy's own is used where none is named; so may a reference be."""
    monkeypatch.setenv("REDIS_ADDRESS", redis_server.endpoint_url)
    assert cli("slots", "list", "--url", "env:REDIS_ADDRESS").exit_code == exits.OK
    with config.open("a") as file:
        file.write('[policies]\nslots = { url = "env:REDIS_ADDRESS", limit = 5 }\n')
    assert cli("slots", "list").exit_code == exits.OK
    monkeypatch.delenv("REDIS_ADDRESS")
    result = cli("slots", "list")
    assert result.exit_code == exits.CONFIG
    assert "'REDIS_ADDRESS'" in only_line(result)


def test_redis_is_away(cli: Cli) -> None:
    """It is said in a line, without the password, and that to try again may do."""
    url = f"redis://:{SECRET}@127.0.0.1:{free_port()}"
    for verb in (
        ("show", "o"),
        ("list",),
        ("set", "o", "3"),
        ("unset", "o"),
        ("release", "o", "x"),
        ("clear", "o", "--yes"),
    ):
        result = cli("slots", *verb, "--url", url)
        assert result.exit_code == exits.TRY_AGAIN
        assert only_line(result).startswith("connectorkit: Redis is away: ")
        assert SECRET not in result.output


def test_redis_refuses(cli: Cli) -> None:
    """A wrong password is told as such, and not shown."""
    with RedisServer(password="right") as server:
        url = server.endpoint_url.replace("right", SECRET)
        result = cli("slots", "list", "--url", url)
        assert result.exit_code == exits.DENIED
        assert "password" in only_line(result)
        assert SECRET not in result.output
        result = cli("slots", "list", "--url", url, "--debug")
        assert "Traceback" in result.stderr
        assert SECRET not in result.output


@pytest.mark.parametrize(
    "args",
    [
        ("--url", f"http://:{SECRET}@h"),
        ("--url", f"redis://:{SECRET}@h:many"),
        ("--url", f"redis://:{SECRET}@h?colour=blue"),
        ("--namespace", "a{b}"),
        ("--names", "sources"),
    ],
)
def test_refuses_what_cannot_be_read(cli: Cli, url: str, args: tuple[str, ...]) -> None:
    """It is a mistake of the command line, told in a line without the password."""
    assert url
    result = cli("slots", "list", *args)
    assert result.exit_code == exits.USAGE
    assert SECRET not in only_line(result)


@pytest.mark.parametrize("org", ["", "\udcff"])
def test_refuses_what_is_no_id(cli: Cli, url: str, org: str) -> None:
    """So is an organization that cannot be one."""
    assert url
    for args in (("show", org), ("set", org, "3"), ("release", org, "1")):
        result = cli("slots", *args)
        assert result.exit_code == exits.USAGE
        assert "organization" in only_line(result)


def test_it_says_what_to_install(
    cli: Cli, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without redis-py a line says what to run."""
    assert url
    monkeypatch.setitem(sys.modules, "redis", None)
    result = cli("slots", "list")
    assert result.exit_code == exits.CONFIG
    assert "pip install 'connectorkit[redis]'" in only_line(result)


def test_other_verbs_are_refused(config: Path, url: str) -> None:
    """Where a connector's slots are taken, a script learns that it may try again."""
    with config.open("a") as file:
        file.write(
            dedent(f"""
                [connectors.one]
                type = "memory"
                settings = {{ name = "{uuid4()}" }}
                policies = ["slots"]
                slots = {{ url = "{url}", limit = 1, wait = 0 }}
            """)
        )
    with ConnectorKit(config) as kit:
        result = kit.resolve("one").call("list", "list", lambda: elsewhere(config))
    assert result.returncode == exits.TRY_AGAIN, result.stderr
    assert "the slots of the connector (1) are taken" in result.stderr


def elsewhere(config: Path) -> subprocess.CompletedProcess[str]:
    """List a connector's files in a process of its own."""
    return subprocess.run(
        [PROGRAM, "ls", "one:", "--config", config],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_verb_is_listed(cli: Cli) -> None:
    """`plugins --load` names the verb, beside the policy."""
    rows = json.loads(cli("plugins", "--load", "--json").stdout)
    (row,) = [row for row in rows if row["name"] == "slots"]
    assert row["provides"] == ["policy slots", "command slots"]
