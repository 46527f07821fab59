"""Fixtures for all tests: real storage servers and an environment of their own."""

from __future__ import annotations

import gc
import itertools
import os
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import certifi
import hypothesis
import pytest

from servers import GcsEmulator, MotoS3, RcloneS3, RedisServer, is_ambient

if TYPE_CHECKING:
    from collections.abc import Iterator

    from faults.s3_places import Place

# A busy machine is slow: no property is about time, and none holds up the others. What
# new examples find is for who writes the code, not for who happens to build it.
hypothesis.settings.register_profile(
    "unhurried", deadline=None, max_examples=30, derandomize="CI" in os.environ
)
hypothesis.settings.load_profile("unhurried")

_home_numbers = itertools.count()


def pytest_configure(config: pytest.Config) -> None:
    """Hide the machine's variables before collection: clients read some on import."""
    patch = pytest.MonkeyPatch()
    config.add_cleanup(patch.undo)
    for variable in filter(is_ambient, [*os.environ]):
        patch.delenv(variable)
    # Without these, a client without credentials asks the network for some.
    patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    patch.setenv("NO_GCE_CHECK", "true")
    # Each client of S3 reads all authorities of the world, for 14 ms. One will do: no
    # test talks to the world.
    bundle = certifi.contents()
    end = "-----END CERTIFICATE-----\n"
    with tempfile.NamedTemporaryFile("w", suffix=".pem", delete=False) as file:
        file.write(bundle[: bundle.index(end) + len(end)])
    config.add_cleanup(lambda: Path(file.name).unlink())
    patch.setenv("AWS_CA_BUNDLE", file.name)


@pytest.fixture(scope="module", autouse=True)
def _light_collections() -> None:
    """Keep what was there before a module's tests from the garbage collector.

    Libraries leave a million objects to a process. Each full collection would look at
    every one of them, and tests ask for a hundred.
    """
    with warnings.catch_warnings():
        # After a freeze it may find a client's sockets before the client, who closes
        # them; and the module that begins here has none of it.
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Give each test an empty home, so that it finds no one's configuration."""
    # Not mktemp, which looks at all of its folders to number the next.
    home = tmp_path_factory.getbasetemp() / "homes" / str(next(_home_numbers))
    home.mkdir(parents=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(home))
        patch.setenv("XDG_CACHE_HOME", str(home / ".cache"))
        patch.setenv("XDG_CONFIG_HOME", str(home / ".config"))
        patch.setenv("XDG_DATA_HOME", str(home / ".local" / "share"))
        yield home


@pytest.fixture(scope="session")
def rclone_s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RcloneS3]:
    """Run a fast S3 server that checks signatures, one for each test process."""
    with RcloneS3(tmp_path_factory.mktemp("rclone")) as server:
        yield server


@pytest.fixture(scope="session")
def moto_s3() -> Iterator[MotoS3]:
    """Run an S3 server with versions and preconditions, one for each test process."""
    with MotoS3() as server:
        yield server


@pytest.fixture(scope="session")
def gcs_emulator() -> Iterator[GcsEmulator]:
    """Run a Google Cloud Storage server, one for each test process."""
    with GcsEmulator() as server:
        yield server


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """Run a Redis, one for each test process."""
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="session")
def redis_cluster() -> Iterator[RedisServer]:
    """Run a Redis Cluster of one node, one for each test process."""
    with RedisServer(is_cluster=True) as server:
        yield server


@pytest.fixture
def rclone_bucket(rclone_s3: RcloneS3) -> str:
    """Make a bucket of this test's own on `rclone_s3`."""
    return rclone_s3.bucket()


@pytest.fixture
def moto_bucket(moto_s3: MotoS3) -> str:
    """Make a bucket of this test's own on `moto_s3`."""
    return moto_s3.bucket()


@pytest.fixture
def gcs_bucket(gcs_emulator: GcsEmulator) -> str:
    """Make a bucket of this test's own on `gcs_emulator`."""
    return gcs_emulator.bucket()


@pytest.fixture(scope="module")
def places(moto_s3: MotoS3, rclone_s3: RcloneS3) -> Iterator[dict[str, Place]]:
    """Open an S3 server and a MinIO behind proxies, by connector type."""
    # Not before the machine's variables are hidden.
    from faults.s3_places import Place

    with Place("s3", moto_s3) as s3, Place("minio", rclone_s3) as minio:
        yield {"s3": s3, "minio": minio}


@pytest.fixture
def s3(places: dict[str, Place]) -> Place:
    """Type s3 at moto, which keeps to conditions."""
    places["s3"].quiet()
    return places["s3"]


@pytest.fixture
def minio(places: dict[str, Place]) -> Place:
    """Type minio at rclone, which takes no notice of conditions."""
    places["minio"].quiet()
    return places["minio"]


@pytest.fixture(params=["s3", "minio"])
def place(request: pytest.FixtureRequest) -> Place:
    """One after the other."""
    place: Place = request.getfixturevalue(request.param)
    return place


@pytest.fixture
def key(request: pytest.FixtureRequest) -> str:
    """Name a key of this test's own."""
    return f"key-{abs(hash(request.node.nodeid))}"
