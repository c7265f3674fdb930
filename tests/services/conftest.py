"""The servers that an installation can be set beside."""

from tests.servers.postgresql import postgresql  # noqa: F401 # pyright: ignore[reportUnusedImport]
