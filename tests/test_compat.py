"""Hosts of the source system get from connectors what its documents say."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
import pickle
import shutil
import subprocess
import sys
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from enum import Enum
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given
from hypothesis import strategies as st

from connectorkit import (
    CheckFailed,
    ConfigError,
    ConnectorKit,
    ConnectorKitError,
    ConnectorType,
    InvalidConnectorID,
    InvalidSettings,
    UnknownConnector,
    compat,
    hookimpl,
)
from connectorkit.compat import (
    ConnectorError,
    ConnectorOperations,
    SourceFileSystem,
    get_connector_capabilities,
    get_connector_instance,
    get_fs_connector,
    validate_connector_settings,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from servers import GcsEmulator, RcloneS3, S3Server

MINIO = "minio|c799f6e3-2b57-434e-aaac-b5daa415da19"
GCS = "google_cloud_storage|109bbe7b-8861-45eb-8841-7244e833d97b"
LOCAL = "localstorage|ded5e7f0-f527-416d-8d4a-19f559bd6da5"
SYSTEM = "pcs|b8cd25cd-4452-4d54-bd5e-e7d71459b702"

# What the tests find in each storage, by path.
FILES = {
    "a.txt": b"alpha",
    "docs/b.txt": b"beta",
    "docs/deep/c.txt": b"gamma",
}
MD5 = {path: hashlib.md5(FILES[path]).hexdigest() for path in FILES}  # noqa: S324
MD5_OF_A = "0cc175b9c0f1b6a831c399e269772661"


class FileStorageType(Enum):
    """The source system's enum, as far as it matters."""

    WORKFLOW_EXECUTION = "WORKFLOW_EXECUTION"
    API_EXECUTION = "API_EXECUTION"


@dataclass(frozen=True)
class Place:
    """A connector of a host's, and where in it a test's files are.

    Attributes:
        connector: What the host got.
        root: A bucket, where paths begin with one; else empty.
        hashes: Whether the storage knows its files' hashes.
        has_folders: Whether it has folders that stay when they are empty.
    """

    connector: SourceFileSystem
    root: str = ""
    hashes: bool = True
    has_folders: bool = False

    def path(self, path: str) -> str:
        """Return the path of one of the test's files as the host would say it."""
        return f"{self.root}/{path}".strip("/")

    @property
    def folder(self) -> Path:
        """Where a local storage is on the disk."""
        folder: Path = self.connector._connector._settings.model_dump()["path"]
        return folder

    def names(self, found: list[dict[str, Any]]) -> list[str]:
        """Return where a listing found the test's files."""
        assert all(entry["name"].startswith(self.root) for entry in found)
        return [entry["name"].removeprefix(self.root).strip("/") for entry in found]


def settings_of(server: S3Server) -> dict[str, Any]:
    """Return the settings alone of a connector to a server."""
    names = ("key", "secret", "endpoint_url", "region_name")
    return {name: getattr(server, name) for name in names}


def form_of(server: S3Server, **more: Any) -> dict[str, Any]:
    """Return what the source system's form for S3 and MinIO stores."""
    return {
        "connectorName": "Invoices",
        "key": server.key,
        "secret": server.secret,
        "endpoint_url": server.endpoint_url,
        "region_name": server.region_name,
        "path": "/ignored",
        **more,
    }


def form_of_gcs(server: GcsEmulator, **more: Any) -> dict[str, Any]:
    """Return what the source system's form for GCS stores; an emulator needs more."""
    return {
        "connectorName": "Invoices",
        "project_id": server.project,
        "token": "anon",
        "endpoint_url": server.endpoint_url,
        **more,
    }


@contextlib.contextmanager
def using(kit: ConnectorKit) -> Iterator[ConnectorKit]:
    """Have the module use a kit."""
    compat.use_kit(kit)
    try:
        yield kit
    finally:
        compat.use_kit(None)


@pytest.fixture(scope="module")
def lasting_kit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConnectorKit]:
    """Make a kit whose stores are folders; it lasts, for clients are slow to make."""
    folder = tmp_path_factory.mktemp("stores")
    stores = {
        name: {"provider": "local", "credentials": {"path": str(folder / name)}}
        for name in ("WORKFLOW_EXECUTION", "API_EXECUTION")
    }
    with ConnectorKit(config={"system": stores}) as kit:
        yield kit


@pytest.fixture
def kit(lasting_kit: ConnectorKit) -> Iterator[ConnectorKit]:
    """Have the module use a kit whose stores are empty."""
    for store in lasting_kit.config.system.values():
        shutil.rmtree(store.credentials["path"], ignore_errors=True)
        Path(store.credentials["path"]).mkdir()
    with using(lasting_kit):
        yield lasting_kit


def _scoped(request: pytest.FixtureRequest) -> Place:
    server = request.getfixturevalue("rclone_s3")
    bucket = request.getfixturevalue("rclone_bucket")
    return Place(get_connector_instance(MINIO, form_of(server, bucket=bucket)))


def _unscoped(request: pytest.FixtureRequest) -> Place:
    server = request.getfixturevalue("moto_s3")
    bucket = request.getfixturevalue("moto_bucket")
    return Place(get_connector_instance(MINIO, form_of(server)), root=bucket)


def _gcs(request: pytest.FixtureRequest) -> Place:
    server = request.getfixturevalue("gcs_emulator")
    bucket = request.getfixturevalue("gcs_bucket")
    form = form_of_gcs(server, bucket="ignored")
    return Place(get_connector_instance(GCS, form), root=bucket)


def _local(request: pytest.FixtureRequest) -> Place:
    form = {"connectorName": "Disk", "path": str(request.getfixturevalue("tmp_path"))}
    connector = get_connector_instance(LOCAL, form, trusted=True)
    return Place(connector, root="own", hashes=False, has_folders=True)


def _system(_request: pytest.FixtureRequest) -> Place:
    connector = get_connector_instance(SYSTEM, {"key": "not looked at"})
    return Place(connector, hashes=False, has_folders=True)


PLACES = {
    "scoped": _scoped,
    "unscoped": _unscoped,
    "gcs": _gcs,
    "local": _local,
    "system": _system,
}


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest, kit: ConnectorKit) -> Place:
    """Open each of the storages with the test's files in it."""
    return filled(PLACES[request.param](request), kit)


@pytest.fixture
def scoped(request: pytest.FixtureRequest, kit: ConnectorKit) -> Place:
    """Open a bucket of rclone's, as the source system's newest version does."""
    return filled(_scoped(request), kit)


@pytest.fixture
def unscoped(request: pytest.FixtureRequest, kit: ConnectorKit) -> Place:
    """Open moto without a bucket, as the source system's older versions did."""
    return filled(_unscoped(request), kit)


@pytest.fixture
def gcs(request: pytest.FixtureRequest, kit: ConnectorKit) -> Place:
    """Open the emulator of Google Cloud Storage."""
    return filled(_gcs(request), kit)


@pytest.fixture
def system(request: pytest.FixtureRequest, kit: ConnectorKit) -> Place:
    """Open the platform's store of workflows."""
    return filled(_system(request), kit)


def filled(place: Place, kit: ConnectorKit) -> Place:
    """Write the test's files."""
    assert kit is place.connector._connector.kit
    fs = place.connector.get_fsspec_fs()
    for path, content in FILES.items():
        if place.has_folders:
            fs.makedirs(place.path(path).rpartition("/")[0], exist_ok=True)
        fs.write_bytes(place.path(path), content)
    return place


def raising(error: type[Exception]) -> Callable[..., Any]:
    """Return a function that can only fail."""

    def fail(*_arguments: Any, **_options: Any) -> Any:
        raise error

    return fail


# Instances


def test_import_is_light() -> None:
    """To import the module loads neither fsspec nor pydantic, nor any client."""
    script = """
import sys
import connectorkit.compat
heavy = {"fsspec", "pydantic", "pluggy", "s3fs", "gcsfs", "botocore", "aiohttp"}
print(*heavy.intersection(sys.modules))
"""
    ran = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert ran.stdout.split() == []


def test_default_kit_is_made_once() -> None:
    """Without a kit of the host's, all threads share one."""
    compat.use_kit(None)
    together = threading.Barrier(4)

    def instance(_number: int) -> SourceFileSystem:
        together.wait()
        return get_connector_instance("memory", {})

    with ThreadPoolExecutor(4) as threads:
        kits = {it._connector.kit for it in threads.map(instance, range(4))}
    assert len(kits) == 1
    kits.pop().close()


def test_closed_default_kit_is_made_anew() -> None:
    """A default kit that was closed does not keep the host from working."""
    compat.use_kit(None)
    get_connector_instance("memory", {})._connector.kit.close()
    anew = get_connector_instance("memory", {})
    anew.get_fsspec_fs().pipe_file("a", b"1")
    anew._connector.kit.close()


def test_chosen_kit_is_used(kit: ConnectorKit) -> None:
    """A kit of the host's resolves what the host asks for."""
    assert get_connector_instance("memory", {})._connector.kit is kit


def test_form_is_taken_as_stored(kit: ConnectorKit, rclone_s3: RcloneS3) -> None:
    """What a form stores beside the settings does not get in their way."""
    form = form_of(rclone_s3, connector_name="x", endpointURL="http://nowhere")
    connector = get_connector_instance(MINIO, form)
    assert connector.get_fsspec_fs() is kit.resolve(MINIO, settings_of(rclone_s3)).fs


def test_bucket_of_google_is_not_looked_at(gcs: Place) -> None:
    """For Google Cloud Storage, paths begin with the bucket, whatever the form says."""
    assert gcs.connector.get_file_size(gcs.path("a.txt")) == 5


def test_bucket_may_have_a_folder(scoped: Place, rclone_s3: RcloneS3) -> None:
    """A bucket's folder, slashes and blanks around it, scopes as a bucket does."""
    bucket = f" {scoped.connector._bucket}/docs/ "
    narrow = get_connector_instance(MINIO, form_of(rclone_s3, bucket=bucket))
    assert narrow.get_file_size("b.txt") == 4
    assert narrow.test_credentials()


@pytest.mark.usefixtures("kit")
@pytest.mark.parametrize("bucket", ["", None, " "])
def test_blank_bucket_is_none(rclone_s3: RcloneS3, bucket: str | None) -> None:
    """A bucket that was left blank does not scope."""
    connector = get_connector_instance(MINIO, form_of(rclone_s3, bucket=bucket))
    assert connector.get_fsspec_fs() is connector._connector.fs


@pytest.mark.usefixtures("kit")
@pytest.mark.parametrize(
    ("connector_id", "settings", "cause"),
    [
        ("no-such", {}, UnknownConnector),
        ("no-such", {"connectorName": "x"}, UnknownConnector),
        ("not an id", {}, InvalidConnectorID),
        (None, {}, InvalidConnectorID),
        (MINIO, {"key": "", "secret": ""}, InvalidSettings),
        (MINIO, {"key": "k"}, InvalidSettings),
        (MINIO, {"key": "k", "secret": "s", "misspelt": 1}, InvalidSettings),
        (MINIO, {"key": "env:HOME", "secret": "s"}, InvalidSettings),
        (MINIO, None, InvalidSettings),
        (MINIO, "text", InvalidSettings),
        (GCS, {"json_credentials": "not JSON"}, InvalidSettings),
        (GCS, {"json_credentials": "{}"}, InvalidSettings),
        (LOCAL, {"path": "/"}, InvalidSettings),
    ],
)
def test_every_failure_is_a_value_error(
    connector_id: Any, settings: Any, cause: type[ConnectorKitError]
) -> None:
    """Whatever is wrong, a plain ValueError is raised, with ours as its cause."""
    with pytest.raises(ValueError, match=r"^Failed to instantiate connector: ") as it:
        get_connector_instance(connector_id, settings)
    assert type(it.value) is ValueError
    assert isinstance(it.value.__cause__, cause)
    assert str(it.value).endswith(str(it.value.__cause__))


def test_configured_connector() -> None:
    """A connector of the configuration answers to its ID, and takes no settings."""
    reports = {"type": "memory", "settings": {"name": "reports"}}
    with ConnectorKit(config={"connectors": {"reports": reports}}) as kit, using(kit):
        assert get_connector_instance("reports", None).test_credentials()
        assert get_connector_instance("reports", {"path": "/"}).test_credentials()
        with pytest.raises(ValueError, match="no settings"):
            get_connector_instance("reports", {"name": "x"})


@pytest.mark.usefixtures("kit")
def test_trusted_settings_may_refer(
    rclone_s3: RcloneS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host's own settings may name a variable that holds the secret."""
    monkeypatch.setenv("OWN_SECRET", rclone_s3.secret)
    form = form_of(rclone_s3, secret="env:OWN_SECRET")
    assert get_connector_instance(MINIO, form, trusted=True).test_credentials()


@pytest.mark.usefixtures("kit")
def test_trusted_blanks_are_the_hosts(
    rclone_s3: RcloneS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host's own settings may leave the credentials to its environment."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", rclone_s3.key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", rclone_s3.secret)
    form = form_of(rclone_s3, key="", secret="")
    assert get_connector_instance(MINIO, form, trusted=True).test_credentials()
    with pytest.raises(ValueError, match="key"):
        get_connector_instance(MINIO, form)


def test_system_id_ignores_settings(kit: ConnectorKit) -> None:
    """The platform's store is the same, whatever settings come with its ID."""
    ignored: list[Any] = [None, {}, {"key": "x"}, "text"]
    for settings in ignored:
        connector = get_connector_instance(SYSTEM, settings)
        assert connector.get_fsspec_fs() is kit.resolve(SYSTEM).fs


@pytest.mark.parametrize("store", ["API_EXECUTION", FileStorageType.API_EXECUTION])
def test_storage_type_picks_the_store(
    kit: ConnectorKit, store: str | FileStorageType
) -> None:
    """The third argument, a name or an enum's member, picks the platform's store."""
    connector = get_connector_instance(SYSTEM, {}, store)
    assert connector.get_fsspec_fs() is kit.resolve("system|API_EXECUTION").fs


def test_storage_type_of_workflows(kit: ConnectorKit) -> None:
    """The enum's member for workflows picks what is the default anyway."""
    connector = get_connector_instance(SYSTEM, {}, FileStorageType.WORKFLOW_EXECUTION)
    assert connector.get_fsspec_fs() is kit.resolve(SYSTEM).fs


@pytest.mark.usefixtures("kit")
def test_unknown_storage_type() -> None:
    """A store that there is not is a ValueError like all else."""
    with pytest.raises(ValueError, match="NO_SUCH_STORE") as it:
        get_connector_instance(SYSTEM, {}, "NO_SUCH_STORE")
    assert isinstance(it.value.__cause__, ConnectorKitError)


def test_storage_type_is_for_system_ids(kit: ConnectorKit, rclone_s3: RcloneS3) -> None:
    """For any other connector, the storage type is not looked at."""
    connector = get_connector_instance(MINIO, form_of(rclone_s3), "NO_SUCH_STORE")
    assert connector.get_fsspec_fs() is kit.resolve(MINIO, settings_of(rclone_s3)).fs


def test_broken_store_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store's variable that is no JSON is a ValueError that names the variable."""
    monkeypatch.setenv("WORKFLOW_EXECUTION_FILE_STORAGE_CREDENTIALS", "{")
    broken = pytest.raises(ValueError, match="WORKFLOW_EXECUTION_FILE")
    with ConnectorKit(config={}) as kit, using(kit), broken as it:
        get_connector_instance(SYSTEM, {})
    assert isinstance(it.value.__cause__, ConfigError)


def test_store_of_the_source_systems_variable(
    rclone_s3: RcloneS3, rclone_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The platform's store on MinIO, as a variable says, answers as MinIO does."""
    store = {"provider": "minio", "credentials": settings_of(rclone_s3)}
    variable = "WORKFLOW_EXECUTION_FILE_STORAGE_CREDENTIALS"
    monkeypatch.setenv(variable, json.dumps(store))
    with ConnectorKit(config={}) as kit, using(kit):
        place = Place(get_connector_instance(SYSTEM, {}), root=rclone_bucket)
        filled(place, kit)
        found = place.connector.list_files(rclone_bucket, max_depth=2)
        assert place.names(found) == ["a.txt", "docs/b.txt"]
        hashes = [place.connector.extract_metadata_file_hash(each) for each in found]
        assert hashes == [MD5["a.txt"], MD5["docs/b.txt"]]
        assert place.connector.test_credentials() is True


@pytest.mark.usefixtures("kit")
def test_validate_settings(rclone_s3: RcloneS3, gcs_emulator: GcsEmulator) -> None:
    """Settings that fit are (True, ""); the others (False, why), and nothing raises."""
    assert validate_connector_settings(MINIO, form_of(rclone_s3)) == (True, "")
    assert validate_connector_settings(GCS, form_of_gcs(gcs_emulator)) == (True, "")
    assert validate_connector_settings(SYSTEM, {"any": "thing"}) == (True, "")
    is_valid, why = validate_connector_settings(MINIO, {"key": "k"})
    assert not is_valid
    assert "secret" in why
    is_valid, why = validate_connector_settings("no-such", {})
    assert not is_valid
    assert "no-such" in why


@pytest.mark.usefixtures("kit")
@pytest.mark.parametrize(
    ("connector_id", "name"),
    [
        (MINIO, "MinIO"),
        (GCS, "Google Cloud Storage"),
        (LOCAL, "Local directory"),
        (SYSTEM, "Local directory"),
    ],
)
def test_capabilities(connector_id: str, name: str) -> None:
    """The capabilities are told by the ID alone, with the source system's keys."""
    capabilities = get_connector_capabilities(connector_id)
    description = capabilities.pop("description")
    assert description
    assert isinstance(description, str)
    assert capabilities == {
        "can_read": True,
        "can_write": True,
        "requires_oauth": False,
        "name": name,
    }


@pytest.mark.usefixtures("kit")
def test_capabilities_of_the_unknown() -> None:
    """What nothing answers to has an error and nothing else."""
    (key, text), *more = get_connector_capabilities("no-such").items()
    assert key == "error"
    assert "no-such" in str(text)
    assert not more


@pytest.mark.usefixtures("kit")
def test_destination_uses_the_same(rclone_s3: RcloneS3) -> None:
    """What destinations call returns what sources get."""
    mine = get_connector_instance(MINIO, form_of(rclone_s3))
    for get in (get_fs_connector, ConnectorOperations.get_fs_connector):
        theirs = get(connector_id=MINIO, settings=form_of(rclone_s3))
        assert theirs.get_fsspec_fs() is mine.get_fsspec_fs()
    with pytest.raises(ValueError, match="no-such"):
        ConnectorOperations.get_fs_connector("no-such", {})


# The filesystem


def test_get_fsspec_fs(place: Place) -> None:
    """The filesystem has the methods that a worker calls, names and paths alike."""
    fs, docs = place.connector.get_fsspec_fs(), place.path("docs")
    assert fs.info(f"{docs}/")["type"] == "directory"
    assert fs.isdir(docs)
    assert fs.exists(place.path("a.txt"))
    assert fs.stat(place.path("a.txt"))["size"] == 5
    assert [each["name"] for each in fs.ls(docs, detail=True)] == fs.listdir(
        docs, detail=False
    )
    with fs.open(place.path("a.txt"), "rb") as file:
        assert file.read() == b"alpha"
    walked = list(fs.walk(docs, maxdepth=2, detail=True))
    assert [path for path, _, _ in walked] == [docs, place.path("docs/deep")]
    assert [*walked[0][2]] == ["b.txt"]
    assert walked[0][2]["b.txt"]["name"] == place.path("docs/b.txt")


def test_scoped_names_are_relative(scoped: Place) -> None:
    """With a bucket, every name is relative to it, and "/" is its root."""
    fs = scoped.connector.get_fsspec_fs()
    assert fs.ls("", detail=False) == fs.ls("/", detail=False) == ["a.txt", "docs"]
    assert fs.info("/")["type"] == fs.info("")["type"] == "directory"
    assert fs.info("a.txt")["name"] == "a.txt"
    assert [each["name"] for each in scoped.connector.list_files("/")] == ["a.txt"]


def test_unscoped_names_begin_with_the_bucket(unscoped: Place) -> None:
    """Without a bucket, every name begins with one, and "/" is a folder of them."""
    fs = unscoped.connector.get_fsspec_fs()
    assert fs.info(unscoped.path("a.txt"))["name"] == f"{unscoped.root}/a.txt"
    assert fs.info("/")["type"] == "directory"
    assert unscoped.root in fs.ls("", detail=False)


def test_credentials_that_work(place: Place) -> None:
    """Credentials that work are True."""
    assert place.connector.test_credentials() is True


@pytest.mark.usefixtures("kit")
def test_credentials_that_do_not_work(rclone_s3: RcloneS3, rclone_bucket: str) -> None:
    """Credentials that do not work raise an error that says what to mend."""
    form = form_of(rclone_s3, secret="wrong", bucket=rclone_bucket)
    connector = get_connector_instance(MINIO, form)
    with pytest.raises(ConnectorError) as it:
        connector.test_credentials()
    assert isinstance(it.value.__cause__, CheckFailed)
    assert it.value.message == str(it.value) == str(it.value.__cause__)
    assert it.value.user_message == it.value.message
    assert "secret" in it.value.message


@pytest.mark.usefixtures("kit")
def test_credentials_for_another_bucket(rclone_s3: RcloneS3) -> None:
    """With a bucket, it is the bucket that has to work."""
    form = form_of(rclone_s3, bucket="no-such-bucket")
    with pytest.raises(ConnectorError, match="no-such-bucket"):
        get_connector_instance(MINIO, form).test_credentials()


def test_system_credentials_are_not_tried(system: Place) -> None:
    """The platform's own credentials are good without a look at the storage."""
    shutil.rmtree(system.folder)
    assert system.connector.test_credentials() is True


def test_connector_error_is_portable() -> None:
    """The error crosses processes as it is, and means users only if told to."""
    for is_for_users in (True, False):
        error = ConnectorError("mend this", treat_as_user_message=is_for_users)
        copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - made here
        assert str(copy) == copy.message == "mend this"
        assert copy.user_message == ("mend this" if is_for_users else None)
        assert isinstance(copy, ConnectorKitError)


def test_instance_tells_what_it_is(scoped: Place) -> None:
    """An instance's repr names the connector and the bucket, and no secret."""
    text = repr(scoped.connector)
    assert MINIO in text
    assert scoped.connector._bucket in text
    settings = scoped.connector._connector._settings.model_dump()
    assert settings["secret"].get_secret_value() not in text


# Metadata


def test_hash_is_of_the_content(place: Place) -> None:
    """The hash is the MD5 in digits, from a listing and a look-up alike, or None."""
    connector, path = place.connector, place.path("docs/b.txt")
    (listed,) = connector.list_files(place.path("docs"))
    looked_up = connector.get_fsspec_fs().info(path)
    expected = MD5["docs/b.txt"] if place.hashes else None
    assert connector.extract_metadata_file_hash(listed) == expected
    assert connector.extract_metadata_file_hash(looked_up) == expected


def test_folders_have_no_hash(place: Place) -> None:
    """A folder has neither hash nor, on object stores, date."""
    folder = place.connector.get_fsspec_fs().info(place.path("docs"))
    assert place.connector.extract_metadata_file_hash(folder) is None
    if not place.has_folders:
        assert place.connector.extract_modified_date(folder) is None


def test_multipart_upload_has_no_hash(unscoped: Place) -> None:
    """The ETag of a multipart upload is none of a content: there is no hash."""
    connector, path = unscoped.connector, unscoped.path("large.bin")
    with connector.get_fsspec_fs().open(path, "wb", block_size=5 << 20) as file:
        file.write(bytes(11 << 20))
    metadata = connector.get_fsspec_fs().info(path)
    assert "-" in metadata["ETag"]
    assert connector.extract_metadata_file_hash(metadata) is None
    assert connector.get_file_system_uuid(path, metadata) is None


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({"ETag": f'"{MD5_OF_A}"'}, MD5_OF_A),
        ({"ETag": MD5_OF_A}, MD5_OF_A),
        ({"ETag": '"Not-Hex"'}, None),
        ({"ETag": '"OfNoHash"'}, "OfNoHash"),
        ({"ETag": '""'}, None),
        ({"ETag": None}, None),
        ({"etag": MD5_OF_A}, None),
        ({"md5Hash": "DMF1ucDxtqgxw5niaXcmYQ=="}, MD5_OF_A),
        ({"md5Hash": "no base64"}, None),
        ({"md5Hash": "", "crc32c": "x", "generation": "1"}, None),
        ({}, None),
    ],
)
def test_hash_of_metadata(metadata: dict[str, Any], expected: str | None) -> None:
    """S3's ETag counts as it is, without quotes; Google's MD5 is spelt in digits."""
    assert anywhere().extract_metadata_file_hash(metadata) == expected


def anywhere(type_id: str = "s3") -> SourceFileSystem:
    """Return an instance for what needs no storage."""
    return SourceFileSystem(SimpleNamespace(type=type_id))  # type: ignore[arg-type]


def test_date_is_when_it_was_written(place: Place) -> None:
    """The date is the storage's, in UTC, from a listing and a look-up alike."""
    connector, now = place.connector, datetime.now(UTC)
    (listed,) = connector.list_files(place.path("docs"))
    for metadata in (listed, connector.get_fsspec_fs().info(place.path("docs/b.txt"))):
        found = connector.extract_modified_date(metadata)
        assert found is not None
        assert found.tzinfo is UTC
        assert abs(found - now) < timedelta(minutes=1)


MOMENT = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)
SECONDS = MOMENT.timestamp()


@pytest.mark.parametrize(
    "value",
    [
        MOMENT,
        MOMENT.astimezone(timezone(timedelta(hours=9))),
        MOMENT.replace(tzinfo=None),
        "2024-05-06T07:08:09Z",
        "2024-05-06T07:08:09",
        " 2024-05-06T09:08:09+02:00 ",
        "Mon, 06 May 2024 07:08:09 GMT",
        "Mon, 06 May 2024 09:08:09 +0200",
        "Mon, 06 May 2024 07:08:09 -0000",
        SECONDS,
        int(SECONDS),
        str(SECONDS),
        SECONDS * 1e3,
        SECONDS * 1e6,
    ],
)
@pytest.mark.parametrize("key", ["LastModified", "updated", "mtime", "last_modified"])
def test_date_in_any_form(key: str, value: object) -> None:
    """A date is read from what any of the storages puts, zone or none."""
    found = anywhere().extract_modified_date({"name": "a", key: value})
    assert found == MOMENT
    assert found.tzinfo is UTC


@pytest.mark.parametrize(
    "value", [None, "", "yesterday", 1e20, float("inf"), float("nan"), 10**400, [], {}]
)
def test_no_date(value: object) -> None:
    """What is no date, or beyond all calendars, is None."""
    assert anywhere().extract_modified_date({"mtime": value}) is None


@given(
    st.one_of(
        st.text(),
        st.integers(),
        st.floats(),
        st.booleans(),
        st.datetimes(timezones=st.none() | st.timezones()),
    )
)
def test_date_never_raises(value: object) -> None:
    """Whatever stands where a date should, a date in UTC or None comes of it."""
    found = anywhere().extract_modified_date({"LastModified": value})
    assert found is None or found.tzinfo is UTC


def test_first_date_counts() -> None:
    """Of several dates, the first that is there counts, LastModified before mtime."""
    metadata = {"mtime": 0, "last_modified": MOMENT, "LastModified": None}
    assert anywhere().extract_modified_date(metadata) == MOMENT


def test_is_dir_by_metadata(place: Place) -> None:
    """Folders are told from files by their metadata."""
    fs = place.connector.get_fsspec_fs()
    assert place.connector.is_dir_by_metadata(fs.info(place.path("docs/")))
    assert not place.connector.is_dir_by_metadata(fs.info(place.path("a.txt")))


@pytest.mark.parametrize(
    ("type_id", "metadata", "expected"),
    [
        ("s3", {"type": "directory"}, True),
        ("s3", {"type": "file", "name": "x/", "size": 0}, False),
        ("s3", {}, False),
        ("gcs", {"type": "file", "name": "x/", "size": 0}, True),
        ("gcs", {"name": None}, False),
        ("gcs", {"name": "empty.txt", "size": 0, "contentType": "text/plain"}, False),
        ("local", {"type": "link", "name": "x"}, False),
    ],
)
def test_what_is_a_folder(
    type_id: str,
    metadata: dict[str, Any],
    expected: bool,
) -> None:
    """The type decides; on Google Cloud Storage a slash at the end does, too."""
    assert anywhere(type_id).is_dir_by_metadata(metadata) is expected


def test_empty_text_file_of_google_is_listed(gcs: Place) -> None:
    """An empty text file is a file: it is listed."""
    fs, path = gcs.connector.get_fsspec_fs(), gcs.path("docs/empty.txt")
    with fs.open(path, "wb", content_type="text/plain"):
        pass
    assert fs.info(path)["size"] == 0
    found = gcs.names(gcs.connector.list_files(gcs.path("docs")))
    assert found == ["docs/b.txt", "docs/empty.txt"]


def test_get_file_size(place: Place) -> None:
    """The size is that of the metadata, or else of the file."""
    get_file_size = place.connector.get_file_size
    assert get_file_size(place.path("docs/b.txt")) == 4
    assert get_file_size(file_path=place.path("docs/b.txt"), metadata={}) == 4
    assert get_file_size(metadata={"size": 7}) == 7
    assert get_file_size("not looked at", {"name": "x"}) is None
    assert get_file_size() is None
    with pytest.raises(FileNotFoundError):
        get_file_size(place.path("missing"))


def test_get_file_metadata(place: Place) -> None:
    """Metadata are the storage's, serialized; {} for what cannot be looked up."""
    path = place.path("a.txt")
    metadata = place.connector.get_file_metadata(path)
    info = place.connector.get_fsspec_fs().info(path)
    assert metadata.keys() == info.keys()
    assert metadata["name"] == info["name"]
    assert metadata["size"] == 5
    assert metadata == place.connector.serialize_metadata_value(info)
    assert place.connector.get_file_metadata(place.path("missing")) == {}
    assert place.connector.report_errors_to_user() == []


def test_get_file_system_uuid(place: Place) -> None:
    """A file is known again by its hash, looked up if no metadata are given."""
    path = place.path("a.txt")
    uuid = place.connector.get_file_system_uuid
    expected = MD5["a.txt"] if place.hashes else None
    assert uuid(file_path=path, metadata={}) == expected
    assert uuid(path) == expected
    assert uuid(file_path="not looked at", metadata={"ETag": '"x"'}) == "x"
    with pytest.raises(FileNotFoundError):
        uuid(place.path("missing"))


class Pair:
    """An object with attributes."""

    def __init__(self) -> None:
        self.left = b"\x00"
        self.right = (1, None)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (True, True),
        (1.5, 1.5),
        ("text", "text"),
        (MOMENT, "2024-05-06T07:08:09+00:00"),
        (date(2024, 5, 6), "2024-05-06"),
        (b"\x00\xff", "AP8="),
        (bytearray(b"a"), "YQ=="),
        ((1, (2, b"a")), [1, [2, "YQ=="]]),
        ({1: MOMENT.date()}, {1: "2024-05-06"}),
        ({7}, "{7}"),
        (PurePosixPath("a/b"), "a/b"),
        (Pair(), {"left": "AA==", "right": [1, None]}),
        (FileStorageType.API_EXECUTION, "API_EXECUTION"),
    ],
)
def test_serialize_metadata_value(value: object, expected: object) -> None:
    """Each kind of value becomes what JSON can hold; keys stay as they are."""
    assert anywhere().serialize_metadata_value(value=value) == expected


def test_serialize_ends() -> None:
    """Beyond ten levels a value is text, so that one within itself has an end."""
    ring: list[Any] = []
    ring.append(ring)
    found = anywhere().serialize_metadata_value(ring)
    for _ in range(11):
        (found,) = found if isinstance(found, list) else (found,)
    assert found == "[[...]]"
    assert anywhere().serialize_metadata_value(None, depth=11) == "None"


# Listing


@pytest.mark.parametrize(
    ("input_dir", "expected"),
    [
        ("/a/b/", "a/b/"),
        ("a", "a/"),
        ("", "/"),
        ("/", "/"),
        ("///", "/"),
        (".", "./"),
        ("a//../b", "a//../b/"),
    ],
)
def test_get_connector_root_dir(input_dir: str, expected: str) -> None:
    """A root has one slash, at its end; what a host says beside it is not looked at."""
    found = anywhere().get_connector_root_dir(input_dir=input_dir, root_path="x")
    assert found == expected
    assert SourceFileSystem.get_connector_root_dir(input_dir) == expected


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, ["a.txt"]),
        ({"max_depth": 2}, ["a.txt", "docs/b.txt"]),
        ({"max_depth": None}, ["a.txt", "docs/b.txt", "docs/deep/c.txt"]),
        ({"max_depth": 20, "limit": 2}, ["a.txt", "docs/b.txt"]),
        ({"max_depth": 20, "limit": 9}, ["a.txt", "docs/b.txt", "docs/deep/c.txt"]),
        ({"limit": 0}, []),
        ({"limit": -1}, []),
        ({"include_dirs": True}, ["docs", "a.txt"]),
        (
            {"include_dirs": True, "max_depth": 3},
            ["docs", "a.txt", "docs/deep", "docs/b.txt", "docs/deep/c.txt"],
        ),
        ({"include_dirs": True, "limit": 1}, ["docs"]),
    ],
)
def test_list_files(
    place: Place, arguments: dict[str, Any], expected: list[str]
) -> None:
    """Files are listed to a depth and a limit, folders before files if asked for."""
    root = place.connector.get_connector_root_dir(input_dir=place.root)
    found = place.connector.list_files(directory=root, **arguments)
    assert place.names(found) == expected
    assert place.connector.report_errors_to_user() == []


def test_list_files_gives_the_storages_metadata(place: Place) -> None:
    """What is listed is what the filesystem lists, nothing added or serialized."""
    (found,) = place.connector.list_files(place.path("docs"))
    listed = place.connector.get_fsspec_fs().ls(place.path("docs"), detail=True)
    assert found in listed


def test_list_files_of_a_file(place: Place) -> None:
    """To list a file gives that file."""
    found = place.connector.list_files(place.path("docs/b.txt"))
    assert place.names(found) == ["docs/b.txt"]


def test_list_files_depth_below_one(place: Place) -> None:
    """A depth of less than one is a mistake, and raised as such."""
    with pytest.raises(ValueError, match="max_depth"):
        place.connector.list_files("", max_depth=0)


@pytest.mark.parametrize("root", ["", "/"])
def test_list_files_at_the_root(unscoped: Place, gcs: Place, root: str) -> None:
    """Where no bucket is set, the root's folders are the buckets."""
    for place in (unscoped, gcs):
        listing = place.connector.list_files
        assert listing(root) == []
        names = [each["name"] for each in listing(root, include_dirs=True)]
        assert place.root in [name.strip("/") for name in names]
        names = [each["name"] for each in listing(root, max_depth=2)]
        assert place.path("a.txt") in names


def test_folder_marker_is_not_listed(unscoped: Place, gcs: Place) -> None:
    """The object by which a console makes a folder is no file in that folder."""
    for place in (unscoped, gcs):
        place.connector.get_fsspec_fs().pipe_file(place.path("docs/"), b"")
        found = place.connector.list_files(place.path("docs"), include_dirs=True)
        assert place.names(found) == ["docs/deep", "docs/b.txt"]


def test_missing_folder_is_reported(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    """A folder that is not there lists as nothing, and is reported once."""
    with caplog.at_level(logging.WARNING, logger="connectorkit"):
        assert place.connector.list_files(place.path("missing")) == []
    (error,) = place.connector.report_errors_to_user()
    assert place.path("missing") in error
    assert error in caplog.text
    assert place.connector.report_errors_to_user() == []


def test_folder_that_fails_is_skipped(
    system: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder below the first that cannot be listed is reported; the rest is there."""
    fs = system.connector.get_fsspec_fs()
    fs.makedirs("closed")
    ls = fs.ls

    def refusing(path: str, **options: Any) -> Any:
        if path == "closed":
            raise PermissionError
        return ls(path, **options)

    monkeypatch.setattr(fs, "ls", refusing)
    found = system.connector.list_files("", max_depth=2)
    assert system.names(found) == ["a.txt", "docs/b.txt"]
    (error,) = system.connector.report_errors_to_user()
    assert "closed" in error
    assert "PermissionError" in error


def test_other_errors_are_raised(
    system: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is no OSError is not taken for a folder that cannot be listed."""
    monkeypatch.setattr(system.connector.get_fsspec_fs(), "ls", raising(RuntimeError))
    with pytest.raises(RuntimeError):
        system.connector.list_files("")


def test_sort_files_by_modified_date() -> None:
    """The oldest comes first, or last; ties stay, and no date is the oldest of all."""
    young: dict[str, Any] = {"name": "young", "LastModified": MOMENT}
    twin: dict[str, Any] = {"name": "twin", "updated": "2024-05-06T07:08:09Z"}
    old: dict[str, Any] = {"name": "old", "mtime": 1.0}
    dateless: dict[str, Any] = {"name": "dateless"}
    given_list = [young, dateless, twin, old]
    sort = anywhere().sort_files_by_modified_date
    assert sort(given_list) == [dateless, old, young, twin]
    assert sort(given_list, ascending=False) == [young, twin, old, dateless]
    assert given_list == [young, dateless, twin, old]
    assert sort([{}]) == [{}]


def test_sort_of_a_listing(place: Place) -> None:
    """A listing of any storage can be sorted, the same entries in a new list."""
    found = place.connector.list_files(place.path(""), max_depth=3)
    ordered = place.connector.sort_files_by_modified_date(found)
    assert ordered is not found
    assert sorted(map(id, ordered)) == sorted(map(id, found))
    dates = [place.connector.extract_modified_date(each) for each in ordered]
    assert dates == sorted(dates, key=lambda each: each or MOMENT)


# Writing


def test_create_dir_if_not_exists(place: Place) -> None:
    """A folder is made where there are such; one that is there is left as it is."""
    fs = place.connector.get_fsspec_fs()
    place.connector.create_dir_if_not_exists(input_dir=place.path("docs"))
    place.connector.create_dir_if_not_exists(input_dir=place.path("new"))
    assert fs.isdir(place.path("new")) is place.has_folders
    fs.write_bytes(place.path("new/file"), b"1")
    place.connector.create_dir_if_not_exists(input_dir=place.path("new"))
    assert fs.cat_file(place.path("docs/b.txt")) == b"beta"


def test_create_dir_race(system: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no error if another process makes the folder between look and make."""
    looks = iter([False, True])
    fs = system.connector.get_fsspec_fs()
    monkeypatch.setattr(fs, "isdir", lambda _path: next(looks))
    system.connector.create_dir_if_not_exists("docs")
    assert not [*looks]


def test_create_dir_over_a_file(system: Place) -> None:
    """A file in the folder's place is an error."""
    with pytest.raises(FileExistsError):
        system.connector.create_dir_if_not_exists("a.txt")


def test_upload_file_to_storage(place: Place, kit: ConnectorKit) -> None:
    """A file of the platform's store is copied, and replaces what was there."""
    store = kit.resolve(SYSTEM).fs
    store.makedirs("execution", exist_ok=True)
    store.write_bytes("execution/result.json", b"[1, 2]")
    for destination in ("docs/b.txt", "docs//x/../b.txt/", "docs/new.json"):
        place.connector.upload_file_to_storage(
            source_path="execution/result.json",
            destination_path=place.path(destination),
        )
    fs = place.connector.get_fsspec_fs()
    assert fs.cat_file(place.path("docs/b.txt")) == b"[1, 2]"
    assert fs.cat_file(place.path("docs/new.json")) == b"[1, 2]"


def test_upload_of_a_missing_file(place: Place) -> None:
    """A file that is not in the store is an error, and nothing is overwritten."""
    with pytest.raises(FileNotFoundError):
        place.connector.upload_file_to_storage("missing", place.path("docs/b.txt"))
    fs = place.connector.get_fsspec_fs()
    assert fs.cat_file(place.path("docs/b.txt")) == b"beta"


def test_upload_streams(system: Place) -> None:
    """A large file is never in memory as a whole."""
    size = 96 << 20
    with (system.folder / "large").open("wb") as file:
        file.truncate(size)
    tracemalloc.start()
    system.connector.upload_file_to_storage("large", "copy")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < size / 3
    assert system.connector.get_file_size("copy") == size


class BreakingFileSystem(MemoryFileSystem):  # type: ignore[misc]
    """A store whose files break off."""

    def _open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        return BreakingFile()


class BreakingFile(io.BytesIO):
    """A file that breaks off after sixteen megabytes, two reads of the copy."""

    def read(self, size: int | None = -1) -> bytes:
        if self.tell() >= 16 << 20:
            raise OSError("the store is gone")
        self.seek(512 << 10, io.SEEK_CUR)
        return bytes(512 << 10)


class Breaking(ConnectorType[Any]):
    """A store whose files break off."""

    id = "breaking"

    def open(self, settings: Any, **options: Any) -> BreakingFileSystem:
        return BreakingFileSystem(**options)

    @hookimpl
    def connectorkit_connectors(self) -> list[type[ConnectorType[Any]]]:
        return [Breaking]


@pytest.mark.parametrize(
    ("storage", "part"),
    [("scoped", 5 << 20), ("unscoped", 5 << 20), ("gcs", 512 << 10)],
)
def test_upload_that_breaks_off(
    storage: str,
    part: int,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """If the copy fails half-way, the old object stays, and no upload is left over."""
    config = {"system": {"WORKFLOW_EXECUTION": {"provider": "breaking"}}}
    with ConnectorKit(config=config) as kit, using(kit):
        kit.register(Breaking(), "breaking")
        place = filled(PLACES[storage](request), kit)
        fs = place.connector._connector.fs
        # So that a part is uploaded before the store breaks off.
        monkeypatch.setattr(fs, "default_block_size", part)
        with pytest.raises(OSError, match="the store is gone") as it:
            place.connector.upload_file_to_storage("any", place.path("docs/b.txt"))
        # The emulator cannot cancel uploads.
        assert hasattr(it.value, "__notes__") == (storage == "gcs")
        outer = place.connector.get_fsspec_fs()
        assert outer.cat_file(place.path("docs/b.txt")) == b"beta"
        if storage == "unscoped":
            answer = fs.call_s3("list_multipart_uploads", Bucket=place.root)
            assert "Uploads" not in answer


def test_upload_whose_rest_stays(
    unscoped: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An upload that can neither go on nor be cancelled says that its parts stay."""
    fs = unscoped.connector.get_fsspec_fs()
    store = unscoped.connector._connector.kit.resolve(SYSTEM).fs
    store.write_bytes("any", bytes(11 << 20))
    monkeypatch.setattr(fs, "default_block_size", 5 << 20)
    answer = fs._call_s3

    async def refuse(method: str, *more: Any, **kwargs: Any) -> Any:
        if method in {"upload_part", "abort_multipart_upload"}:
            raise PermissionError(method)
        return await answer(method, *more, **kwargs)

    monkeypatch.setattr(fs, "_call_s3", refuse)
    with pytest.raises(PermissionError, match="upload_part") as it:
        unscoped.connector.upload_file_to_storage("any", unscoped.path("docs/b.txt"))
    assert "still stored" in it.value.__notes__[0]
    assert fs.cat_file(unscoped.path("docs/b.txt")) == b"beta"


def test_instance_travels_as_its_connector(
    tmp_path: Path, rclone_s3: RcloneS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An instance of a configured connector pickles; its secrets do not go with it."""
    monkeypatch.setenv("OWN_KEY", rclone_s3.key)
    monkeypatch.setenv("OWN_SECRET", rclone_s3.secret)
    path = tmp_path / "connectorkit.toml"
    path.write_text(
        '[connectors.mine]\ntype = "minio"\n[connectors.mine.settings]\n'
        f'endpoint_url = "{rclone_s3.endpoint_url}"\n'
        'key = "env:OWN_KEY"\nsecret = "env:OWN_SECRET"\n'
    )
    with ConnectorKit(config=path) as kit:
        connector = SourceFileSystem(kit.resolve("mine"), bucket=rclone_s3.bucket())
        packed = pickle.dumps(connector)
        assert rclone_s3.secret.encode() not in packed
        copy = pickle.loads(packed)  # noqa: S301 - made here
        connector.get_fsspec_fs().write_bytes("a", b"1")
        assert [each["name"] for each in copy.list_files("")] == ["a"]
