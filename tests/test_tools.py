"""Real tools read and write Parquet on a real server by an ID, under its policies."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import fsspec
import pytest

from connectorkit.testing import ResetMidBody, Status
from reaching import MINE, Reach

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pandas as pd

    from servers import RcloneS3

COUNT = 1000
SUM = COUNT * (COUNT - 1) // 2


@pytest.fixture(scope="module")
def shared(
    rclone_s3: RcloneS3, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Reach]:
    """Reach a server by a configuration that all tests share."""
    with Reach(rclone_s3, tmp_path_factory.mktemp("tools")) as reach:
        frame().to_parquet(reach.url("there.parquet"))
        frame().to_csv(reach.url("there.csv"), index=False)
        yield reach


@pytest.fixture
def reach(shared: Reach) -> Reach:
    """Have the first read and the first write of a test fail on the wire."""
    shared.quiet()
    shared.proxy.inject(ResetMidBody(at=0.5), when="get_object", times=1)
    shared.proxy.inject(Status(500), when="put_object", times=1)
    return shared


def frame() -> pd.DataFrame:
    """Return what is written."""
    import pandas as pd

    return pd.DataFrame({"x": range(COUNT), "y": ["a", "b"] * (COUNT // 2)})


def healed(reach: Reach, operation: str) -> bool:
    """Tell whether a request failed and was tried again, unseen by the tool."""
    sent = [each for each in reach.proxy.log if each.operation == operation]
    return 0 < sum(each.fault is not None for each in sent) < len(sent)


def by_pandas(reach: Reach) -> int:
    """Read by pandas."""
    import pandas as pd

    return int(pd.read_parquet(reach.url("there.parquet")).x.sum())


def csv_by_pandas(reach: Reach) -> int:
    """Read CSV by pandas."""
    import pandas as pd

    return int(pd.read_csv(reach.url("there.csv")).x.sum())


def by_pyarrow(reach: Reach) -> int:
    """Read by pyarrow's handler."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    fs = fsspec.filesystem("connector")
    table = pq.read_table(reach.path("there.parquet"), filesystem=fs)
    return int(pc.sum(table["x"]).as_py())


def dataset_by_pyarrow(reach: Reach) -> int:
    """Read a dataset by pyarrow."""
    import pyarrow.compute as pc
    import pyarrow.dataset as ds

    fs = fsspec.filesystem("connector")
    table = ds.dataset(reach.path("there.parquet"), filesystem=fs).to_table()
    return int(pc.sum(table["x"]).as_py())


def url_by_pyarrow(reach: Reach) -> int:
    """Read by a URL of pyarrow's own."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    table = pq.read_table(f"fsspec+{reach.url('there.parquet')}")
    return int(pc.sum(table["x"]).as_py())


def by_dask(reach: Reach) -> int:
    """Read by dask, with threads."""
    import dask.dataframe as dd

    read = dd.read_parquet(reach.url("there.parquet"))
    return int(read.x.sum().compute(scheduler="threads"))


def by_duckdb(reach: Reach) -> int:
    """Read by DuckDB."""
    import duckdb

    with duckdb.connect() as db:
        db.register_filesystem(fsspec.filesystem("connector"))
        found = db.sql(f"SELECT sum(x) FROM '{reach.url('there.parquet')}'").fetchall()  # noqa: S608 - the test's own
    return int(found[0][0])


def pattern_by_duckdb(reach: Reach) -> int:
    """Read what matches a pattern by DuckDB."""
    import duckdb

    with duckdb.connect() as db:
        db.register_filesystem(fsspec.filesystem("connector"))
        pattern = reach.url("there*.parquet")
        found = db.sql(f"SELECT sum(x) FROM read_parquet('{pattern}')").fetchall()  # noqa: S608 - the test's own
    return int(found[0][0])


def by_polars(reach: Reach) -> int:
    """Read by polars."""
    import polars as pl

    with fsspec.open(reach.url("there.parquet")) as file:
        return int(pl.read_parquet(file)["x"].sum())


def by_upath(reach: Reach) -> int:
    """Read by UPath."""
    import pandas as pd
    from upath import UPath

    folder = UPath(f"connector://{MINE}") / reach.bucket
    with (folder / "there.parquet").open("rb") as file:
        return int(pd.read_parquet(file).x.sum())


@pytest.mark.parametrize(
    "read",
    [
        by_pandas,
        csv_by_pandas,
        by_pyarrow,
        dataset_by_pyarrow,
        url_by_pyarrow,
        by_dask,
        by_duckdb,
        pattern_by_duckdb,
        by_polars,
        by_upath,
    ],
)
def test_tool_reads(reach: Reach, read: Callable[[Reach], int]) -> None:
    """A body that breaks off is healed beneath the tool, which reads what is there."""
    assert read(reach) == SUM
    assert healed(reach, "get_object")


def to_pandas(reach: Reach, name: str) -> None:
    """Write by pandas."""
    frame().to_parquet(reach.url(name))


def to_pyarrow(reach: Reach, name: str) -> None:
    """Write by pyarrow's handler."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    fs = fsspec.filesystem("connector")
    pq.write_table(pa.Table.from_pandas(frame()), reach.path(name), filesystem=fs)


def to_pyarrow_dataset(reach: Reach, name: str) -> None:
    """Write a dataset by pyarrow."""
    import pyarrow as pa
    import pyarrow.dataset as ds

    fs = fsspec.filesystem("connector")
    table = pa.Table.from_pandas(frame())
    ds.write_dataset(table, reach.path(name), format="parquet", filesystem=fs)


def to_duckdb(reach: Reach, name: str) -> None:
    """Write by DuckDB."""
    import duckdb

    with duckdb.connect() as db:
        db.register_filesystem(fsspec.filesystem("connector"))
        db.sql(f"COPY (SELECT unnest(range({COUNT})) AS x) TO '{reach.url(name)}'")


def to_polars(reach: Reach, name: str) -> None:
    """Write by polars."""
    import polars as pl

    with fsspec.open(reach.url(name), "wb") as file:
        pl.DataFrame({"x": range(COUNT)}).write_parquet(file)


def to_upath(reach: Reach, name: str) -> None:
    """Write by UPath."""
    from upath import UPath

    folder = UPath(f"connector://{MINE}/{reach.bucket}")
    (folder / name).write_bytes((folder / "there.parquet").read_bytes())


def to_dask(reach: Reach, name: str) -> None:
    """Write by dask."""
    import dask.dataframe as dd

    parts = dd.from_pandas(frame(), npartitions=2)
    written = parts.to_parquet(reach.url(name), write_index=False, compute=False)
    written.compute(scheduler="threads")


@pytest.mark.parametrize(
    "write",
    [
        to_pandas,
        to_pyarrow,
        to_pyarrow_dataset,
        to_duckdb,
        to_polars,
        to_upath,
        # Of pandas to dask.
        pytest.param(
            to_dask, marks=pytest.mark.filterwarnings("ignore:The inplace keyword")
        ),
    ],
)
def test_tool_writes(reach: Reach, write: Callable[[Reach, str], None]) -> None:
    """An upload that is refused is tried again beneath the tool."""
    import pandas as pd

    name = f"{write.__name__}.parquet"
    write(reach, name)
    assert healed(reach, "put_object")
    reach.quiet()
    assert int(pd.read_parquet(reach.url(name)).x.sum()) == SUM


def test_pandas_that_fails_publishes_nothing(shared: Reach) -> None:
    """A frame that breaks off while it is written leaves what was there."""
    import pandas as pd

    class Bad:
        def __str__(self) -> str:
            raise ZeroDivisionError

    shared.quiet()
    url = shared.url("kept.csv")
    frame().to_csv(url)
    with fsspec.open(url) as file:
        before = file.read()
    for url_of in (url, shared.url("never.csv"), shared.url("never.csv.gz")):
        with pytest.raises(ZeroDivisionError):
            pd.DataFrame({"x": [*range(COUNT), Bad()]}).to_csv(url_of, chunksize=10)
    with fsspec.open(url) as file:
        assert file.read() == before
    fs = fsspec.filesystem("connector")
    assert not fs.glob(shared.path("never*"))


# Its block cache leaves its own file open.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("chain", ["simplecache", "filecache", "blockcache"])
def test_caches_of_fsspec(reach: Reach, chain: str, tmp_path: Any) -> None:
    """Fsspec's own caches stand before connectors as before any filesystem."""
    options = {chain: {"cache_storage": str(tmp_path)}}
    with fsspec.open(f"{chain}::{reach.url('there.csv')}", **options) as file:
        assert file.read(5) == b"x,y\n0"
    assert healed(reach, "get_object")


def test_upath_is_a_path(reach: Reach) -> None:
    """The ID is a path's drive, and paths come and go as pathlib's do."""
    from upath import UPath

    from connectorkit.protocol.upath import ConnectorPath

    folder = UPath(f"connector://{MINE}/{reach.bucket}/folder")
    file = folder / "ä b%7C" / "x.txt"
    file.write_text("hello")
    assert isinstance(file, ConnectorPath)
    assert file.read_text() == "hello"
    assert (file.name, file.parent.name, file.suffix) == ("x.txt", "ä b%7C", ".txt")
    assert str(file) == reach.url("folder/ä b%7C/x.txt")
    assert [*folder.rglob("*.txt")] == [file]
    assert [*file.parent.iterdir()] == [file]
    assert file.stat().st_size == 5
    assert UPath(str(file)) == file
    assert MINE in {each.name for each in UPath("connector://").iterdir()}
    with suppress(ZeroDivisionError), file.open("w") as writing:
        writing.write("lost")
        _ = 1 // 0
    assert file.read_text() == "hello"
    file.unlink()
    assert not file.exists()
