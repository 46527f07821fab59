"""The commands that touch files copy whole ones, and remove what was meant."""

from __future__ import annotations

import itertools
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from connectorkit import ConnectorKit
from connectorkit.cli import exits
from test_cli.support import LARGE, configure, only_line, plant, s3

if TYPE_CHECKING:
    from servers import GcsEmulator
    from test_cli.support import Cli


def test_ls(cli: Cli, rclone: str, tmp_path: Path) -> None:
    """`ls` prints names, `-l` sizes and times before them, `-r` all files below."""
    (tmp_path / "file").write_bytes(b"12345")
    cli("cp", "file", f"{rclone}/file")
    cli("cp", "file", f"{rclone}/folder/deep/file")
    assert cli("ls", rclone).stdout == "file\nfolder/\n"
    assert cli("ls", "-r", rclone).stdout == "file\nfolder/deep/file\n"
    assert f"{rclone.partition(':')[2]}/" in cli("ls", "rclone:").stdout.splitlines()
    size, modified, name = cli("ls", "-l", f"{rclone}/file").stdout.rstrip().split("\t")
    assert (size, name) == ("5", "file")
    assert modified.endswith("+00:00")
    facts = json.loads(cli("ls", rclone, "--json").stdout)
    assert [*facts[0]] == ["path", "size", "modified", "hash", "is_dir"]
    assert [fact["is_dir"] for fact in facts] == [False, True]


def test_ls_of_nothing(cli: Cli, rclone: str) -> None:
    """A folder that is not there ends with 3, and an empty bucket is no error."""
    assert cli("ls", rclone).exit_code == exits.OK
    result = cli("ls", f"{rclone}/none")
    assert result.exit_code == exits.NOT_FOUND
    assert only_line(result) == f"connectorkit: {rclone}/none: nothing is there."


def test_names_cannot_forge_lines(cli: Cli, tmp_path: Path) -> None:
    """Line breaks and escape sequences in a name are printed as what they are."""
    (tmp_path / "shelf").mkdir()
    (tmp_path / "shelf" / "a\nb\t\x1b[31m").touch()
    assert cli("ls", "shelf:").stdout == "a\\nb\\t\\x1b[31m\n"
    assert cli("ls", "-l", "shelf:").stdout.count("\n") == 1


def test_folder_markers_are_no_files(cli: Cli, config: Path, moto: str) -> None:
    """The empty object by which consoles mark a folder is not listed; rm takes it."""
    fs, bucket = s3(config, moto)
    for key in ("folder/", "folder/file"):
        fs.call_s3("put_object", Bucket=bucket, Key=key, Body=b"")
    assert cli("ls", f"{moto}/folder").stdout == "file\n"
    assert cli("cp", "-r", f"{moto}/folder", "down").exit_code == exits.OK
    assert cli("rm", "-ry", f"{moto}/folder").exit_code == exits.OK
    assert fs.call_s3("list_objects_v2", Bucket=bucket)["KeyCount"] == 0


def test_stat(cli: Cli, rclone: str, tmp_path: Path) -> None:
    """`stat` tells path, size, time and hash."""
    (tmp_path / "file").write_bytes(b"content")
    cli("cp", "file", f"{rclone}/file")
    facts = json.loads(cli("stat", f"{rclone}/file", "--json").stdout)
    assert facts["size"] == 7
    assert facts["hash"] == "9a0364b9e99bb480dd25e1f0284c8555"
    assert "size\t7\n" in cli("stat", f"{rclone}/file").stdout


def test_cat(cli: Cli, rclone: str, tmp_path: Path) -> None:
    """`cat` writes bytes as they are, of several places and of standard input."""
    (tmp_path / "file").write_bytes(b"\x00\xff\n")
    cli("cp", "file", f"{rclone}/file")
    result = cli("cat", f"{rclone}/file", "-", "file", stdin=b"in between")
    assert result.stdout_bytes == b"\x00\xff\nin between\x00\xff\n"


@pytest.mark.parametrize("size", [0, 1, LARGE])
def test_cp_in_all_directions(
    cli: Cli, rclone: str, moto: str, tmp_path: Path, size: int
) -> None:
    """Files of any size come through: to S3, to other S3, within it, and back."""
    content = os.urandom(size)
    (tmp_path / "here").write_bytes(content)
    way = ("here", f"{rclone}/a", f"{moto}/b", f"{moto}/c", "shelf:d", "mem:e", "back")
    for source, target in itertools.pairwise(way):
        result = cli("cp", source, target)
        assert result.stdout == f"{source}\t{target}\t{size}\n", result.stderr
    assert (tmp_path / "back").read_bytes() == content


def test_cp_on_gcs(
    cli: Cli, config: Path, gcs_emulator: GcsEmulator, gcs_bucket: str, tmp_path: Path
) -> None:
    """Google Cloud Storage takes and gives files, lists and removes them."""
    configure(
        config,
        "gcs-here",
        "gcs",
        endpoint_url=gcs_emulator.endpoint_url,
        token="anon",
        project_id=gcs_emulator.project,
    )
    (tmp_path / "file").write_bytes(b"content")
    place = f"gcs-here:{gcs_bucket}/folder"
    assert cli("cp", "file", f"{place}/file").exit_code == exits.OK
    assert cli("cat", f"{place}/file").stdout == "content"
    assert cli("ls", place).stdout == "file\n"
    assert cli("cat", f"{place}/none").exit_code == exits.NOT_FOUND
    assert cli("rm", "-ry", place).stdout == f"{place}\t1\n"
    assert cli("ls", place).exit_code == exits.NOT_FOUND


def test_cp_streams(cli: Cli, rclone: str) -> None:
    """A dash is standard input, or standard output."""
    assert cli("cp", "-", f"{rclone}/file", stdin=b"streamed").exit_code == exits.OK
    assert cli("cp", f"{rclone}/file", "-").stdout == "streamed"
    nameless = cli("cp", "-", f"{rclone}/", stdin=b"")
    assert nameless.exit_code == exits.USAGE


def test_cp_folders(cli: Cli, rclone: str, tmp_path: Path) -> None:
    """A folder goes under its name into one that is there, else becomes the target."""
    plant(tmp_path / "tree")
    assert cli("cp", "tree", f"{rclone}/").exit_code == exits.USAGE
    assert cli("cp", "-r", "tree", f"{rclone}/").exit_code == exits.OK
    assert cli("cp", "-r", "tree", f"{rclone}/other").exit_code == exits.OK
    assert cli("cp", "-r", "tree", f"{rclone}/other").exit_code == exits.OK
    assert cli("cp", "-r", "tree/.", f"{rclone}/content/").exit_code == exits.OK
    assert cli("ls", "-r", rclone).stdout.splitlines() == [
        "content/one",
        "content/sub/deep/two",
        "other/one",
        "other/sub/deep/two",
        "other/tree/one",
        "other/tree/sub/deep/two",
        "tree/one",
        "tree/sub/deep/two",
    ]
    assert cli("cp", "-r", f"{rclone}/tree/.", "back/").exit_code == exits.OK
    assert (tmp_path / "back" / "sub" / "deep" / "two").read_text() == "2"


def test_cp_leaves_out_what_is_no_file(cli: Cli, tmp_path: Path) -> None:
    """Links to files are followed; pipes and links to folders are left out, aloud."""
    plant(tmp_path / "tree")
    (tmp_path / "tree" / "link").symlink_to("one")
    (tmp_path / "tree" / "loop").symlink_to(".")
    os.mkfifo(tmp_path / "tree" / "pipe")
    result = cli("cp", "-r", "tree", "shelf:tree")
    assert result.exit_code == exits.OK
    assert result.stderr.count("left out") == 2
    listed = cli("ls", "-r", "shelf:").stdout.splitlines()
    assert listed == ["tree/link", "tree/one", "tree/sub/deep/two"]


def test_cp_refuses_clashes(cli: Cli, tmp_path: Path) -> None:
    """A file is not copied onto itself, nor two files onto one."""
    plant(tmp_path / "tree")
    (tmp_path / "one").touch()
    assert cli("cp", "one", "./one").exit_code == exits.USAGE
    assert cli("cp", "one", "tree/one", "shelf:").exit_code == exits.USAGE
    assert cli("cp", "one", "tree/one", "shelf:name").exit_code == exits.USAGE
    assert cli("ls", "shelf:").stdout == ""


def test_cp_stays_below_the_target(cli: Cli, config: Path, tmp_path: Path) -> None:
    """An object whose name leads out of the folder is refused, and named."""
    fs = ConnectorKit(config).resolve("mem").fs
    fs.pipe_file("folder/../../../evil", b"x")
    result = cli("cp", "-r", "mem:folder", "down")
    assert result.exit_code == exits.FAILED
    assert "evil" in only_line(result)
    assert not (tmp_path / "down").exists()


@pytest.mark.usefixtures("moto")
def test_cp_to_a_missing_bucket(cli: Cli, config: Path) -> None:
    """A bucket that is not there ends with 3, whether a key follows it or not."""
    (config.parent / "file").touch()
    for target in ("moto:no-such-bucket", "moto:no-such-bucket/key"):
        result = cli("cp", "file", target)
        assert result.exit_code == exits.NOT_FOUND
        assert "bucket" in only_line(result)


def test_cp_keeps_the_mode_and_devices(cli: Cli, tmp_path: Path) -> None:
    """A file that is replaced keeps its mode, a link its place, a device its being."""
    (tmp_path / "new").write_text("new")
    old = tmp_path / "old"
    old.write_text("old")
    old.chmod(0o640)
    (tmp_path / "link").symlink_to("old")
    assert cli("cp", "new", "link").exit_code == exits.OK
    assert (tmp_path / "link").is_symlink()
    assert old.read_text() == "new"
    assert old.stat().st_mode & 0o777 == 0o640
    assert cli("cp", "new", os.devnull).exit_code == exits.OK
    assert Path(os.devnull).is_char_device()


def test_rm(cli: Cli, rclone: str) -> None:
    """`rm` removes an object; one that is not there ends with 3."""
    cli("cp", "-", f"{rclone}/file", stdin=b"x")
    assert cli("rm", f"{rclone}/file").stdout == f"{rclone}/file\t1\n"
    assert cli("rm", f"{rclone}/file").exit_code == exits.NOT_FOUND


def test_rm_asks(cli: Cli, moto: str, tmp_path: Path) -> None:
    """A folder goes only by -r, and after a Yes or --yes."""
    plant(tmp_path / "tree")
    cli("cp", "-r", "tree", f"{moto}/")
    place = f"{moto}/tree"
    assert cli("rm", place).exit_code == exits.USAGE
    refused = cli("rm", "-r", place, stdin="n\n")
    assert refused.exit_code == exits.FAILED
    assert f"Remove {place} with 2 files, 2 B?" in refused.stderr
    silent = cli("rm", "-r", place, stdin="")
    assert silent.exit_code == exits.USAGE
    assert "--yes" in silent.stderr
    assert len(cli("ls", "-r", moto).stdout.splitlines()) == 2
    result = cli("rm", "-r", place, "--json", stdin="y\n")
    assert json.loads(result.stdout) == [{"place": place, "files": 2}]
    assert cli("ls", "-r", moto).stdout == ""


def test_rm_empties_a_bucket(cli: Cli, moto: str) -> None:
    """A top folder, which may be a bucket, is emptied and stays."""
    cli("cp", "-", f"{moto}/folder/file", stdin=b"x")
    assert cli("rm", "-ry", moto).exit_code == exits.OK
    assert cli("ls", moto).stdout == ""


def test_rm_of_local_folders(cli: Cli, tmp_path: Path) -> None:
    """Of a local connector a folder goes wholly, and of a link not its target."""
    plant(tmp_path / "tree")
    cli("cp", "-r", "tree", "shelf:a/tree")
    (tmp_path / "shelf" / "a" / "out").symlink_to(tmp_path / "tree")
    assert cli("rm", "-ry", "shelf:a").exit_code == exits.OK
    assert [*(tmp_path / "shelf").iterdir()] == []
    assert (tmp_path / "tree" / "one").exists()


@pytest.mark.parametrize(
    "place", ["shelf:", "shelf:/", "shelf:.", "shelf:a/..", "file"]
)
def test_rm_refuses(cli: Cli, tmp_path: Path, place: str) -> None:
    """The root of a connector is never removed, nor a file that is on none."""
    (tmp_path / "file").touch()
    cli("cp", "file", "shelf:a/file")
    assert cli("rm", "-ry", place).exit_code == exits.USAGE
    assert (tmp_path / "shelf" / "a" / "file").exists()
    assert (tmp_path / "file").exists()


def test_rm_tells_what_s3_refused(
    cli: Cli, moto: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key that S3 refuses to delete in bulk is an error, though s3fs hides it."""
    from connectorkit_s3 import filesystem

    cli("cp", "-", f"{moto}/folder/file", stdin=b"x")
    said = {"Key": "folder/file", "Code": "AccessDenied", "Message": "Access Denied"}

    async def refuse(*_args: object, **_more: object) -> tuple[list[object], None]:
        return [said], None

    monkeypatch.setattr(filesystem, "delete", refuse)
    result = cli("rm", "-ry", f"{moto}/folder")
    assert result.exit_code == exits.DENIED
    assert "Access Denied" in only_line(result)
