"""What the GCS connector promises beyond what every connector does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from textwrap import dedent
from typing import TYPE_CHECKING

import pytest

from contracts.places import kit_at, settings_for
from contracts.stub import Answer, Request, Stub

if TYPE_CHECKING:
    from servers import GcsEmulator

_BLOCK = 2**18


class TestPlainClient:
    """gcsfs's JSON client is opened, not the gRPC one that its package prefers."""

    def test_in_a_fresh_interpreter(
        self, gcs_emulator: GcsEmulator, gcs_bucket: str
    ) -> None:
        """No gRPC client is imported, and a forked child goes on where its parent was.

        gcsfs's gRPC client would hang in the child, as would gcsfs's own open file.
        """
        script = """
            import json, os, sys
            from connectorkit import ConnectorKit

            config, path = json.loads(sys.argv[1]), sys.argv[2]
            connector = ConnectorKit(config).resolve("it")
            connector.fs.ls(path.partition("/")[0])
            connector.fs.pipe_file(path, b"content")
            with connector.fs.open(path, "wb", block_size=1 << 18) as file:
                file.write(b"content" * 100_000)
            imported = {"gcsfs.extended_gcsfs", "google.cloud.storage_control_v2"}
            print(sorted(imported & sys.modules.keys()))
            file = connector.fs.open(path)
            child = os.fork()
            if not child:
                try:
                    file.read()
                except RuntimeError:
                    file.close()
                    os._exit(connector.fs.cat_file(path, 0, 7) != b"content")
            print(os.waitpid(child, 0)[1])
        """
        config = {
            "connectors": {
                "it": {"type": "gcs", "settings": settings_for("gcs", gcs_emulator)}
            }
        }
        done = subprocess.run(
            [
                sys.executable,
                "-c",
                dedent(script),
                json.dumps(config),
                f"{gcs_bucket}/k",
            ],
            env=dict(os.environ),
            capture_output=True,
            text=True,
            timeout=100,
            check=True,
        )
        assert done.stdout == "[]\n0\n"


def test_unclosed_writers(gcs_emulator: GcsEmulator, gcs_bucket: str) -> None:
    """A process that forgets open files ends, and no half of one is an object."""
    script = """
        import json, sys
        from connectorkit import ConnectorKit

        config, path = json.loads(sys.argv[1]), sys.argv[2]
        fs = ConnectorKit(config).resolve("it").fs
        short = fs.open(f"{path}/short", "wb")
        short.write(b"short")
        long = fs.open(f"{path}/long", "wb", block_size=1 << 18)
        long.write(bytes(3 << 18))
        text = fs.open(f"{path}/text", "wt")
        text.write("text")
    """
    settings = settings_for("gcs", gcs_emulator)
    config = {"connectors": {"it": {"type": "gcs", "settings": settings}}}
    path = f"{gcs_bucket}/unclosed"
    subprocess.run(
        [sys.executable, "-c", dedent(script), json.dumps(config), path],
        env=dict(os.environ),
        timeout=60,
        check=True,
    )
    with kit_at("gcs", settings) as kit:
        assert kit.resolve("it").fs.find(path) == []


@pytest.mark.parametrize("compression", [None, "gzip"])
@pytest.mark.parametrize("mode", ["wt", "wb"])
def test_exception_within_the_with(
    mode: str, compression: str | None, gcs_emulator: GcsEmulator, gcs_bucket: str
) -> None:
    """An exception drops what was written by text and compression, too."""
    with kit_at("gcs", settings_for("gcs", gcs_emulator)) as kit:
        fs, path = kit.resolve("it").fs, f"{gcs_bucket}/key"
        fs.pipe_file(path, b"old")

        def fail() -> None:
            with fs.open(path, mode, compression=compression) as file:
                file.write("half" if mode == "wt" else b"half")
                raise KeyError

        with pytest.raises(KeyError):
            fail()
        assert fs.cat_file(path) == b"old"
        with fs.open(path, mode, compression=compression) as file:
            file.write("all" if mode == "wt" else b"all")
        with fs.open(path, "rb", compression=compression) as file:
            assert file.read() == b"all"


def _upload(request: Request) -> Answer:
    """Take any upload as Google does."""
    if request.method == "GET":
        return Answer(404)
    if "upload_id" in request.query:
        sent = request.headers["content-range"].removeprefix("bytes ")
        if sent.endswith("/*"):
            return Answer(308, b"", {"Range": f"bytes=0-{sent[:-2].split('-')[1]}"})
    elif request.query["uploadType"] == "resumable":
        location = f"http://{request.headers['host']}{request.path}?upload_id=1"
        return Answer(200, b"", {"Location": location})
    return Answer.json({"generation": "1", "size": "0"})


class TestExclusive:
    """What is written by `open(path, "xb")` or `pipe_file(mode="create")` is new.

    At a stub that shows the requests: the emulator ignores preconditions.
    """

    @pytest.mark.parametrize("size", [0, 10, 3 * _BLOCK + 1])
    @pytest.mark.parametrize("look", [404, 403])
    def test_open_on_the_wire(self, size: int, look: int) -> None:
        """An upload begins under ifGenerationMatch=0, be it empty, small or long.

        Credentials that may not read can write.
        """

        def answer(request: Request) -> Answer:
            return Answer(look) if request.method == "GET" else _upload(request)

        with Stub(answer) as stub, kit_at("gcs", settings_for("gcs", stub)) as kit:
            fs = kit.resolve("it").fs
            with fs.open("bucket/key", "xb", block_size=_BLOCK) as file:
                file.write(b"x" * size)
        begun = [r for r in stub.asked("POST") if "upload_id" not in r.query]
        assert [r.query.get("ifGenerationMatch") for r in begun] == ["0"]

    def test_pipe_on_the_wire(self) -> None:
        """A small and a long write begin under ifGenerationMatch=0."""
        with Stub(_upload) as stub, kit_at("gcs", settings_for("gcs", stub)) as kit:
            fs = kit.resolve("it").fs
            fs.pipe_file("bucket/key", b"x", mode="create")
            long = bytes(2 * _BLOCK)
            fs.pipe_file("bucket/key", long, chunksize=_BLOCK, mode="create")
        begun = [r for r in stub.asked("POST") if "upload_id" not in r.query]
        assert [r.query.get("ifGenerationMatch") for r in begun] == ["0", "0"]

    def test_refusal(self) -> None:
        """Who loses to another writer gets a FileExistsError."""

        def answer(request: Request) -> Answer:
            return Answer(404 if request.method == "GET" else 412)

        with Stub(answer) as stub, kit_at("gcs", settings_for("gcs", stub)) as kit:
            fs = kit.resolve("it").fs
            with pytest.raises(FileExistsError):
                fs.pipe_file("bucket/key", b"x", mode="create")
            file = fs.open("bucket/key", "xb")
            file.write(b"x")
            with pytest.raises(FileExistsError):
                file.close()

    def test_is_told_before_writing(
        self, gcs_emulator: GcsEmulator, gcs_bucket: str
    ) -> None:
        """What is there already is found when the file is opened."""
        with kit_at("gcs", settings_for("gcs", gcs_emulator)) as kit:
            fs, path = kit.resolve("it").fs, f"{gcs_bucket}/key"
            fs.pipe_file(path, b"old")
            with pytest.raises(FileExistsError):
                fs.open(path, "xb")
            assert fs.cat_file(path) == b"old"
