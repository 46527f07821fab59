"""For hosts that come from the source system: its connectors' surface over ours.

A worker that gets its connectors from the source system's `get_connector_instance`
changes one import, for source and destination alike:

```python
from connectorkit.compat import get_connector_instance

connector = get_connector_instance(connector_id, settings)
for metadata in connector.list_files("invoices", max_depth=3, limit=100):
    print(metadata["name"], connector.extract_metadata_file_hash(metadata))
```

The answers are the source system's, save where those were mistakes or a danger:

- Settings are checked when the instance is made. There, Google credentials that are no
  JSON were found out at the first use.
- Blank credentials are refused unless `trusted=True`: they meant the host's own.
- `bucket` may be missing; then paths begin with the bucket's name.
- Paths of a local connector are relative to its directory, which only a host that says
  `trusted=True` may name.
- `test_credentials` says what to mend in `user_message`, too; that was None.
- `list_files`: `limit=0` gives nothing, not one; the object that marks a folder is not
  in it; what cannot be listed is reported at any depth; the root of S3 can be listed.
- An empty text file on Google Cloud Storage is a file, not a folder.
- The date is None where a number is beyond all calendars, and the hash where
  `md5Hash` is no Base64; both raised. Numbers too large to be seconds are milli- or
  microseconds, whatever the storage. A date in words with the zone `-0000` is UTC.
- `serialize_metadata_value` gives the value of an enum's member, not its innards.
- `create_dir_if_not_exists` does not mind that another process was faster.
- `upload_file_to_storage` streams; if it fails, an object store keeps what it had.
- `get_connector_capabilities` gives name and description of our connector type.
- `ConnectorError` can be pickled.
"""

from connectorkit.compat.filesystem import ConnectorError, SourceFileSystem
from connectorkit.compat.instances import (
    ConnectorOperations,
    get_connector_capabilities,
    get_connector_instance,
    get_fs_connector,
    use_kit,
    validate_connector_settings,
)

__all__ = [
    "ConnectorError",
    "ConnectorOperations",
    "SourceFileSystem",
    "get_connector_capabilities",
    "get_connector_instance",
    "get_fs_connector",
    "use_kit",
    "validate_connector_settings",
]
