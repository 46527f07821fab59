"""Dask distributed: workers in processes of their own resolve IDs for themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from connectorkit import UnknownConnector, set_default_kit
from connectorkit.errors import NotPicklable
from connectorkit.testing import Status, memory_kit
from reaching import MINE, Reach

if TYPE_CHECKING:
    from collections.abc import Iterator

    from distributed import Client

    from servers import RcloneS3

COUNT, PARTS = 1000, 4

# Of the libraries to each other.
pytestmark = [
    pytest.mark.filterwarnings("ignore:The inplace keyword"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def reach(
    rclone_s3: RcloneS3, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Reach]:
    """Reach a server by a configuration, which the workers find as well."""
    with Reach(rclone_s3, tmp_path_factory.mktemp("dask")) as reach:
        import pandas as pd

        for number in range(PARTS):
            frame = pd.DataFrame({"x": range(COUNT)})
            frame.to_parquet(reach.url(f"frame/{number}.parquet"))
        yield reach


@pytest.fixture(scope="module")
def client(reach: Reach) -> Iterator[Client]:
    """Start two workers."""
    import dask
    from distributed import Client, LocalCluster

    del reach
    with (
        dask.config.set({"distributed.worker.multiprocessing-method": "spawn"}),
        LocalCluster(
            n_workers=2,
            threads_per_worker=2,
            processes=True,
            dashboard_address=":0",
            silence_logs=50,
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


def _worker(path: str) -> tuple[int, int, int]:
    import os

    from connectorkit import default_kit

    return os.getpid(), id(default_kit().resolve(MINE).fs), len(path)


def _read(connector: Any, path: str) -> int:
    with connector.fs.open(path) as file:
        return len(file.read())


@pytest.mark.usefixtures("client")
def test_frame_is_read(reach: Reach) -> None:
    """read_parquet of a URL, computed by the workers; what fails there is healed."""
    import dask.dataframe as dd

    frame = dd.read_parquet(reach.url("frame"))
    reach.quiet()
    reach.proxy.inject(Status(500), when="get_object", times=2)
    assert int(frame.x.sum().compute()) == PARTS * COUNT * (COUNT - 1) // 2
    assert sum(each.fault is not None for each in reach.proxy.log) == 2


@pytest.mark.usefixtures("client")
def test_frame_is_written(reach: Reach) -> None:
    """to_parquet by the workers, read again."""
    import dask.dataframe as dd
    import pandas as pd

    frame = dd.from_pandas(pd.DataFrame({"x": range(COUNT)}), npartitions=PARTS)
    frame.to_parquet(reach.url("written"), write_index=False)
    assert int(dd.read_parquet(reach.url("written")).x.max().compute()) == COUNT - 1


def test_map_over_what_was_found(client: Client, reach: Reach) -> None:
    """A connector goes along as its ID, and each worker has one filesystem of it."""
    connector = reach.kit.resolve(MINE)
    paths = connector.fs.find(f"{reach.bucket}/frame")
    sizes = client.gather(client.map(lambda p: _read(connector, p), paths))
    assert sizes == connector.fs.sizes(paths)
    told = client.gather(client.map(_worker, [f"{n}" for n in range(40)]))
    by_worker = {pid: {fs for p, fs, _ in told if p == pid} for pid, _, _ in told}
    assert len(by_worker) <= 2
    assert all(len(each) == 1 for each in by_worker.values())


def test_unknown_id(client: Client) -> None:
    """An ID that nobody knows on the worker is said to be unknown, by its name."""

    def work() -> bytes:
        import fsspec

        with fsspec.open("connector://elsewhere/bucket/key") as file:
            data: bytes = file.read()
            return data

    with pytest.raises(UnknownConnector, match="elsewhere"):
        client.submit(work).result()


@pytest.mark.usefixtures("client")
def test_kit_in_memory() -> None:
    """A filesystem of a kit in memory does not go to workers, and says what to do."""
    import dask.dataframe as dd
    import pandas as pd

    with memory_kit("notes") as kit, set_default_kit(kit):
        pd.DataFrame({"x": [1]}).to_parquet("connector://notes/x.parquet")
        with pytest.raises((NotPicklable, TypeError)) as error:
            dd.read_parquet("connector://notes/x.parquet").compute()
    causes, cause = [], error.value
    while cause is not None:
        causes.append(str(cause))
        cause = cause.__cause__ or cause.__context__  # type: ignore[assignment]
    assert any("connectorkit.toml" in each for each in causes)
