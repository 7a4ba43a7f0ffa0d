"""Which cluster a command is about."""

from __future__ import annotations

from pathlib import Path

from zmflow.config import Settings
from zmflow.config.options import EXECUTION_TARGET, JOBMANAGER_ADDRESS, JOBMANAGER_PORT
from zmflow.errors import ConfigurationError

__all__ = ["require_cluster", "target_of", "with_local_cluster"]


def with_local_cluster(settings: Settings, directory: Path | None = None) -> Settings:
    """These settings with the address of the cluster ``zmflow cluster start`` began on this machine.

    Unchanged where an address or the embedded target is set, and where no such cluster runs.
    """
    if settings.is_set(JOBMANAGER_ADDRESS) or settings[EXECUTION_TARGET] == "embedded":
        return settings
    from zmflow.runtime.local_cluster import running_address

    address = running_address(settings, directory)
    if address is None:
        return settings
    host, port = address
    values = {JOBMANAGER_ADDRESS.key: host, JOBMANAGER_PORT.key: str(port)}
    return settings.with_values(values, "zmflow cluster start")


def target_of(settings: Settings) -> str:
    """The executor to use: what ``execution.target`` says; for auto, remote where there is an address."""
    target = settings[EXECUTION_TARGET]
    if target != "auto":
        return target
    return "remote" if settings[JOBMANAGER_ADDRESS] else "embedded"


def require_cluster(settings: Settings) -> Settings:
    """These settings, if they name a JobManager.

    Raises:
        ConfigurationError: they do not; says how to name one.
    """
    if settings[JOBMANAGER_ADDRESS]:
        return settings
    raise ConfigurationError(
        "No JobManager is configured, and no cluster was started on this machine.",
        hint="Start one with 'zmflow cluster start', or name one with --jobmanager HOST:PORT, "
        "ZMFLOW_JOBMANAGER_RPC_ADDRESS or jobmanager.rpc.address in zmflow.toml.",
    )
