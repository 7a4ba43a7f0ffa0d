"""What options mean: definitions, addresses, and the settings they become."""

from __future__ import annotations

import pytest

from zmflow.cli.options import parse_address, parse_definitions, resolve_settings
from zmflow.cli.targets import require_cluster, target_of
from zmflow.config import load_settings
from zmflow.config.options import JOBMANAGER_ADDRESS, JOBMANAGER_PORT, PARALLELISM_DEFAULT
from zmflow.errors import ConfigurationError


def test_a_later_definition_wins() -> None:
    """-D may be repeated; the last text of a key counts."""
    assert parse_definitions(["a=1", "a=2"]) == {"a": "2"}


@pytest.mark.parametrize("definition", ["parallelism.default", "=2", ""])
def test_a_definition_without_key_or_value_is_refused(definition: str) -> None:
    """The refusal shows the form that is meant."""
    with pytest.raises(ConfigurationError, match="KEY=VALUE"):
        parse_definitions([definition])


@pytest.mark.parametrize("address", ["", ":6123", "node7:", "node7:http"])
def test_a_malformed_address_is_refused(address: str) -> None:
    """The refusal shows the form that is meant."""
    with pytest.raises(ConfigurationError, match="HOST:PORT"):
        parse_address(address)


def test_options_of_the_command_beat_definitions() -> None:
    """--jobmanager and -p are later than -D; a port that is not given keeps its setting."""
    settings = resolve_settings(
        ["jobmanager.rpc.address=a", "jobmanager.rpc.port=7", "parallelism.default=2"],
        "b",
        {"parallelism.default": "3"},
    )
    assert (
        settings[JOBMANAGER_ADDRESS],
        settings[JOBMANAGER_PORT],
        settings[PARALLELISM_DEFAULT],
    ) == ("b", 7, 3)
    assert settings.value_of(JOBMANAGER_ADDRESS).where == "--jobmanager"


def test_auto_means_remote_where_there_is_an_address() -> None:
    """execution.target decides; auto follows the address."""
    assert target_of(load_settings({}, environment={})) == "embedded"
    assert target_of(load_settings({"jobmanager.rpc.address": "a"}, environment={})) == "remote"
    assert (
        target_of(
            load_settings({"jobmanager.rpc.address": "a", "execution.target": "embedded"}, environment={})
        )
        == "embedded"
    )


def test_a_command_about_a_cluster_needs_one() -> None:
    """Without an address the hint names every way to give one."""
    with pytest.raises(ConfigurationError) as caught:
        require_cluster(load_settings({}, environment={}))
    assert "zmflow cluster start" in str(caught.value.hint) and "--jobmanager" in str(caught.value.hint)
