"""Servers that are real, and the workspaces that use them."""

# pyright: reportUnusedImport=false
from tests.registry.conftest import finished, params, workspace  # noqa: F401
from tests.servers.postgresql import postgresql  # noqa: F401
from tests.servers.remotes import remote  # noqa: F401
from tests.servers.s3 import s3  # noqa: F401
from tests.servers.ssh import ssh  # noqa: F401
