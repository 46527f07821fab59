"""The servers that the other tests rely on are what they say."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from textwrap import dedent
from urllib.parse import urlsplit

import pytest
from gcsfs.core import GCSFileSystem
from s3fs import S3FileSystem

import servers
from servers import GcsEmulator, MotoS3, RcloneS3, S3Server, ServerError


def _s3_filesystem(server: S3Server, **options: object) -> S3FileSystem:
    defaults = {
        "key": server.key,
        "secret": server.secret,
        "endpoint_url": server.endpoint_url,
        "config_kwargs": {"response_checksum_validation": "when_required"},
        "skip_instance_cache": True,
        "use_listings_cache": False,
    }
    return S3FileSystem(**{**defaults, **options})


def _listens(endpoint_url: str) -> bool:
    address = urlsplit(endpoint_url)
    with socket.socket() as client:
        return client.connect_ex((address.hostname, address.port)) == 0


def _run_elsewhere(script: str) -> subprocess.CompletedProcess[str]:
    """Run a script that imports `servers` in an interpreter of its own."""
    return subprocess.run(
        [sys.executable, "-c", dedent(script)],
        env={**os.environ, "PYTHONPATH": str(Path(servers.__file__).parent)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_rclone_round_trip(rclone_s3: RcloneS3, rclone_bucket: str) -> None:
    """An object reads back from rclone as written, and is a file under its root."""
    filesystem = _s3_filesystem(rclone_s3)
    filesystem.pipe_file(f"{rclone_bucket}/a/b", b"content")
    assert filesystem.cat_file(f"{rclone_bucket}/a/b", start=1, end=4) == b"ont"
    assert (rclone_s3.root / rclone_bucket / "a" / "b").read_bytes() == b"content"


def test_rclone_refuses_wrong_secret(rclone_s3: RcloneS3, rclone_bucket: str) -> None:
    """A request to rclone that is signed with a wrong secret is refused."""
    stranger = _s3_filesystem(rclone_s3, secret="wrong")
    with pytest.raises(PermissionError):
        stranger.pipe_file(f"{rclone_bucket}/key", b"content")


def test_rclone_bucket_is_seen_at_once(rclone_s3: RcloneS3) -> None:
    """A bucket made on rclone after a listing is in the next one."""
    filesystem = _s3_filesystem(rclone_s3)
    filesystem.ls("")
    assert rclone_s3.bucket() in filesystem.ls("")


def test_moto_versions(moto_s3: MotoS3, moto_bucket: str) -> None:
    """A versioned bucket on moto keeps what is overwritten."""
    filesystem = _s3_filesystem(moto_s3, version_aware=True)
    filesystem.make_bucket_versioned(moto_bucket)
    filesystem.pipe_file(f"{moto_bucket}/key", b"old")
    filesystem.pipe_file(f"{moto_bucket}/key", b"new")
    assert len(filesystem.object_version_info(f"{moto_bucket}/key")) == 2


def test_moto_if_none_match(moto_s3: MotoS3, moto_bucket: str) -> None:
    """A write to moto that demands a new key leaves an old one alone."""
    filesystem = _s3_filesystem(moto_s3)
    filesystem.pipe_file(f"{moto_bucket}/key", b"old", mode="create")
    with pytest.raises(FileExistsError):
        filesystem.pipe_file(f"{moto_bucket}/key", b"new", mode="create")
    assert filesystem.cat_file(f"{moto_bucket}/key") == b"old"


def test_moto_reset() -> None:
    """A reset makes moto forget its buckets."""
    with MotoS3() as server:
        server.bucket()
        server.reset()
        assert _s3_filesystem(server).ls("") == []


def test_gcs_round_trip(gcs_emulator: GcsEmulator, gcs_bucket: str) -> None:
    """An object reads back from the emulator as it was written."""
    filesystem = GCSFileSystem(
        project=gcs_emulator.project,
        token="anon",
        endpoint_url=gcs_emulator.endpoint_url,
        skip_instance_cache=True,
    )
    filesystem.pipe_file(f"{gcs_bucket}/a/b", b"content")
    assert filesystem.cat_file(f"{gcs_bucket}/a/b", start=1, end=4) == b"ont"
    assert filesystem.ls(f"{gcs_bucket}/a") == [f"{gcs_bucket}/a/b"]


def test_server_restarts_at_its_address(tmp_path: Path) -> None:
    """A stopped server is gone, and comes back at its old address."""
    server = RcloneS3(tmp_path)
    with server:
        address = server.endpoint_url
    assert not _listens(address)
    with server:
        assert server.endpoint_url == address
        assert _listens(address)


def test_failed_start_says_why(tmp_path: Path) -> None:
    """A server that cannot start says why in its own words, and leaves no process."""
    server = RcloneS3(tmp_path)
    with server:
        pass
    with (
        socket.create_server(("127.0.0.1", server.port)),
        pytest.raises(ServerError, match="address already in use"),
    ):
        server.start()
    with pytest.raises(ServerError, match="not running"):
        _ = server.pid


def test_servers_end_with_the_interpreter(tmp_path: Path) -> None:
    """All servers end with the interpreter that started them."""
    run = _run_elsewhere(f"""
        from pathlib import Path
        from servers import GcsEmulator, MotoS3, RcloneS3
        for server in RcloneS3(Path({str(tmp_path)!r})), MotoS3(), GcsEmulator():
            server.start()
            print(server.endpoint_url)
        raise SystemExit("the end")
    """)
    assert run.stderr == "the end\n"
    assert [_listens(url) for url in run.stdout.split()] == [False] * 3


@pytest.mark.skipif(sys.platform != "linux", reason="needs PR_SET_PDEATHSIG")
def test_servers_end_with_a_killed_process(tmp_path: Path) -> None:
    """On Linux all servers end with the process that started them, if killed too."""
    run = _run_elsewhere(f"""
        import os, signal
        from pathlib import Path
        from servers import GcsEmulator, MotoS3, RcloneS3
        for server in RcloneS3(Path({str(tmp_path)!r})), MotoS3(), GcsEmulator():
            server.start()
            print(server.endpoint_url, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """)
    urls = run.stdout.split()
    assert len(urls) == 3, run.stderr
    # The system ends them at its leisure.
    deadline = time.monotonic() + 10
    while any(map(_listens, urls)) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert [_listens(url) for url in urls] == [False] * 3


def test_forked_child_leaves_servers_alone() -> None:
    """A forked child may use a server, and its exit does not end it."""
    run = _run_elsewhere("""
        import os, sys
        from servers import GcsEmulator
        with GcsEmulator() as server:
            child = os.fork()
            server.bucket("child" if child == 0 else "parent")
            if child == 0:
                sys.exit()
            os.waitpid(child, 0)
            server.bucket("survivor")
        print("done")
    """)
    assert run.stdout == "done\n", run.stderr


def test_home_is_empty(home: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A test's home is an empty folder of its own."""
    assert Path.home() == home
    assert home.is_relative_to(tmp_path_factory.getbasetemp())
    assert list(home.iterdir()) == []


def test_machine_variables_are_hidden() -> None:
    """No variable of the machine steers a storage client; two of the tests' own do."""
    ambient = {name for name in os.environ if servers.is_ambient(name)}
    assert ambient == {"AWS_CA_BUNDLE", "AWS_EC2_METADATA_DISABLED"}
