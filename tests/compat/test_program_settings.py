"""What programs of PyFlink set: configuration, execution config, checkpoint config, dependencies."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import zmflow
from zmflow.api.checkpoint_config import CheckpointConfig, CheckpointingMode, ExternalizedCheckpointRetention
from zmflow.api.execution_config import ExecutionConfig, map_text, read_map_text
from zmflow.api.notices import forget_notices
from zmflow.api.time import Duration
from zmflow.compat.pyflink.configuration import Configuration
from zmflow.compat.pyflink.environment import StreamExecutionEnvironment
from zmflow.compat.pyflink.refusals import PyFlinkImportError
from zmflow.config.options import PARALLELISM_DEFAULT
from zmflow.errors import ConfigurationError, JobGraphError

FOREIGN = "state.backend.rocksdb.memory.managed"


@pytest.fixture(autouse=True)
def fresh_notices() -> Iterator[None]:
    """Each test is told everything anew."""
    forget_notices()
    yield
    forget_notices()


@pytest.fixture
def environment() -> StreamExecutionEnvironment:
    """An environment as a program of PyFlink gets it."""
    return StreamExecutionEnvironment.get_execution_environment()


def test_a_key_of_flink_is_kept_with_one_warning() -> None:
    """It can be read back by every getter; the second time nobody is told."""
    with pytest.warns(UserWarning, match=FOREIGN) as told:
        configuration = Configuration().set_boolean(FOREIGN, True)
        configuration.set_boolean(FOREIGN, True)
    assert len(told) == 1
    assert told[0].filename == __file__
    assert configuration.get_boolean(FOREIGN, False) is True
    assert configuration.get_string(FOREIGN, "") == "true"
    with pytest.raises(ConfigurationError, match="not a number"):
        configuration.get_integer(FOREIGN, 0)


@pytest.mark.filterwarnings("ignore:zmflow has no setting")
def test_every_getter_reads_what_its_setter_wrote() -> None:
    """Texts, numbers, truth and bytes go in and out unchanged."""
    configuration = Configuration()
    configuration.set_string("a.text", "x").set_integer("an.integer", -(2**40)).set_float("a.float", 1e-7)
    configuration.set_boolean("a.boolean", False).set_bytearray("some.bytes", b"\x00\xff")
    assert configuration.get_string("a.text", "") == "x"
    assert configuration.get_integer("an.integer", 0) == -(2**40)
    assert configuration.get_float("a.float", 0.0) == 1e-7
    assert configuration.get_float("an.integer", 0.0) == float(-(2**40))
    assert configuration.get_boolean("a.boolean", True) is False
    assert configuration.get_bytearray("some.bytes", b"") == bytearray(b"\x00\xff")
    assert configuration.get_bytearray("no.bytes", b"z") == bytearray(b"z")
    assert configuration.get_float("no.float", 2.5) == 2.5
    for wrong in (
        lambda: configuration.get_float("a.text", 0.0),
        lambda: configuration.get_boolean("a.text", True),
    ):
        with pytest.raises(ConfigurationError):
            wrong()


@pytest.mark.filterwarnings("ignore:zmflow has no setting")
def test_configurations_are_merged_and_copied() -> None:
    """A prefix goes before each key; copies are independent and equal."""
    one, two = Configuration.from_dict({"a": "1"}), Configuration()
    two.add_all(one, "p.")
    two.add_all(one)
    target: dict[str, str] = {}
    two.add_all_to_dict(target)
    assert target == two.to_dict() == {"p.a": "1", "a": "1"}
    twin = copy.deepcopy(two)
    assert twin == two
    twin.remove_config("a")
    assert twin != two
    assert type(twin) is Configuration


def test_known_settings_are_checked_all_the_same() -> None:
    """zmflow's own settings keep their types."""
    with pytest.raises(ConfigurationError, match=r"parallelism\.default"):
        Configuration().set_string("parallelism.default", "many")


@pytest.mark.parametrize(
    ("text", "parts"),
    [("a;b", ["a", "b"]), ("[a, b]", ["a", "b"]), ("['a', 'b,c']", ["a", "b,c"]), ("", []), ("a", ["a"])],
)
def test_lists_in_settings_are_taken_apart(text: str, parts: list[str]) -> None:
    """Both of Flink's ways to write a list are read."""
    assert zmflow.Configuration.parse_list_value(text) == parts


def test_an_environment_takes_known_settings_and_shows_all(environment: StreamExecutionEnvironment) -> None:
    """What zmflow knows has an effect; the rest is shown again."""
    with pytest.warns(UserWarning, match=FOREIGN):
        configuration = Configuration.from_dict({"parallelism.default": "3", FOREIGN: "true"})
    environment.configure(configuration)
    assert environment.get_parallelism() == 3
    shown = environment.get_configuration().to_dict()
    assert (shown["parallelism.default"], shown[FOREIGN]) == ("3", "true")
    again = StreamExecutionEnvironment.get_execution_environment(configuration)
    assert again.get_parallelism() == 3


@pytest.mark.filterwarnings("ignore:zmflow has no")
@pytest.mark.parametrize(
    ("member", "default", "value"),
    [
        ("auto_watermark_interval", 200, 50),
        ("latency_tracking_interval", 0, 1000),
        ("task_cancellation_interval", 30_000, 10),
        ("task_cancellation_timeout", 5000, 100),
        ("max_parallelism", 0, 256),
        ("global_job_parameters", {}, {"a": "it's", "b": "x:y,z", "": ""}),
    ],
)
def test_execution_settings_read_back(
    environment: StreamExecutionEnvironment, member: str, default: Any, value: Any
) -> None:
    """Each getter has Flink's default and gives what its setter was given."""
    config = environment.get_config()
    assert getattr(config, f"get_{member}")() == default
    assert getattr(config, f"set_{member}")(value) is config
    assert getattr(environment.get_config(), f"get_{member}")() == value


@pytest.mark.filterwarnings("ignore:zmflow has no")
@pytest.mark.parametrize(
    ("switch", "ask", "default"),
    [
        ("closure_cleaner", "is_closure_cleaner_enabled", True),
        ("force_kryo", "is_force_kryo_enabled", False),
        ("force_avro", "is_force_avro_enabled", False),
        ("object_reuse", "is_object_reuse_enabled", False),
        ("auto_generated_uids", "has_auto_generated_uids_enabled", True),
    ],
)
def test_execution_switches_read_back(
    environment: StreamExecutionEnvironment, switch: str, ask: str, default: bool
) -> None:
    """Enabled and disabled are told apart, and the default is Flink's."""
    config = environment.get_config()
    assert getattr(config, ask)() is default
    for call, state in (("enable", True), ("disable", False)):
        getattr(config, f"{call}_{switch}")()
        assert getattr(config, ask)() is state


def test_parallelism_is_one_setting(environment: StreamExecutionEnvironment) -> None:
    """The config and the environment set the same thing."""
    environment.get_config().set_parallelism(5)
    assert environment.get_parallelism() == 5
    assert environment.get_config().get_parallelism() == 5
    assert environment._settings[PARALLELISM_DEFAULT] == 5
    with pytest.raises(JobGraphError):
        environment.get_config().set_parallelism(0)


def test_a_setter_without_effect_says_so_once(environment: StreamExecutionEnvironment) -> None:
    """One notice for each setting, at the program's line."""
    with pytest.warns(UserWarning, match="no effect") as told:
        environment.get_config().enable_object_reuse()
        environment.get_config().enable_object_reuse()
    assert [notice.filename for notice in told] == [__file__]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        environment.get_config().disable_object_reuse()


@pytest.mark.filterwarnings("ignore:zmflow has no")
@pytest.mark.parametrize(
    ("member", "default", "value"),
    [
        ("checkpointing_mode", CheckpointingMode.EXACTLY_ONCE, CheckpointingMode.AT_LEAST_ONCE),
        ("checkpoint_interval", -1, 1000),
        ("checkpoint_timeout", 600_000, 5000),
        ("min_pause_between_checkpoints", 0, 500),
        ("max_concurrent_checkpoints", 1, 2),
        ("tolerable_checkpoint_failure_number", 0, 3),
        (
            "externalized_checkpoint_retention",
            ExternalizedCheckpointRetention.NO_EXTERNALIZED_CHECKPOINTS,
            ExternalizedCheckpointRetention.RETAIN_ON_CANCELLATION,
        ),
    ],
)
def test_checkpoint_settings_read_back(
    environment: StreamExecutionEnvironment, member: str, default: Any, value: Any
) -> None:
    """Each getter has Flink's default and gives what its setter was given."""
    config = environment.get_checkpoint_config()
    assert getattr(config, f"get_{member}")() == default
    getattr(config, f"set_{member}")(value)
    assert getattr(environment.get_checkpoint_config(), f"get_{member}")() == value


@pytest.mark.filterwarnings("ignore:zmflow has no")
def test_checkpoint_switches_read_back(environment: StreamExecutionEnvironment) -> None:
    """Names of two ages are one setting; what is enabled can be disabled."""
    config = environment.get_checkpoint_config()
    assert not config.is_checkpointing_enabled()
    assert environment.enable_checkpointing(300, CheckpointingMode.AT_LEAST_ONCE) is environment
    assert config.is_checkpointing_enabled()
    assert environment.get_checkpoint_interval() == 300
    assert environment.get_checkpointing_mode() is CheckpointingMode.AT_LEAST_ONCE
    assert environment.get_checkpointing_consistency_mode() is CheckpointingMode.AT_LEAST_ONCE
    config.enable_unaligned_checkpoints()
    assert environment.is_unaligned_checkpoints_enabled()
    config.disable_unaligned_checkpoints()
    assert not environment.is_unaligned_checkpoints_enabled()
    config.set_force_unaligned_checkpoints()
    assert environment.is_force_unaligned_checkpoints()
    config.set_alignment_timeout(Duration.of_seconds(2))
    assert config.get_aligned_checkpoint_timeout() == config.get_alignment_timeout() == 2000
    config.set_fail_on_checkpointing_errors(False)
    assert not config.is_fail_on_checkpointing_errors()
    config.set_externalized_checkpoint_retention(ExternalizedCheckpointRetention.DELETE_ON_CANCELLATION)
    assert config.is_externalized_checkpoints_enabled()


@pytest.mark.parametrize(
    "wrong",
    [
        lambda config: config.set_checkpointing_mode("EXACTLY_ONCE"),
        lambda config: config.set_checkpoint_interval(0),
        lambda config: config.set_max_concurrent_checkpoints(0),
        lambda config: config.set_externalized_checkpoint_retention(1),
    ],
)
def test_impossible_checkpoint_settings_are_refused(
    environment: StreamExecutionEnvironment, wrong: Any
) -> None:
    """The error says what is allowed."""
    with pytest.raises(JobGraphError) as caught:
        wrong(environment.get_checkpoint_config())
    assert caught.value.hint


@pytest.mark.filterwarnings("ignore:zmflow has no")
def test_the_other_settings_of_an_environment_read_back(environment: StreamExecutionEnvironment) -> None:
    """Savepoint directory, changelog, local parallelism and chaining."""
    assert environment.get_default_savepoint_directory() is None
    environment.set_default_savepoint_directory("file:///s")
    assert environment.get_default_savepoint_directory() == "file:///s"
    assert environment.is_changelog_state_backend_enabled() is None
    environment.enable_changelog_state_backend(True)
    assert environment.is_changelog_state_backend_enabled() is True
    environment.set_default_local_parallelism(3)
    assert environment.get_default_local_parallelism() == environment.get_parallelism() == 3
    assert environment.is_chaining_of_operators_with_different_max_parallelism_enabled()


@pytest.mark.parametrize(
    "call",
    [
        lambda environment: environment.add_jars("a.jar"),
        lambda environment: environment.add_classpaths("a.jar"),
        lambda environment: environment.set_python_requirements("requirements.txt", "cache"),
        lambda environment: environment.set_python_executable("/usr/bin/python3"),
    ],
)
def test_what_only_a_jvm_or_a_virtual_environment_needs_is_accepted(
    environment: StreamExecutionEnvironment, call: Any
) -> None:
    """The program is told once and goes on."""
    with pytest.warns(UserWarning) as told:
        call(environment)
        call(environment)
    assert len(told) == 1


def test_archives_are_shipped_and_not_unpacked(environment: StreamExecutionEnvironment) -> None:
    """An archive of modules travels; a directory to unpack it to is refused with what to use."""
    environment.add_python_archive("lib.zip")
    assert environment._py_files[-1] == Path("lib.zip")
    with pytest.raises(ConfigurationError, match="not unpacked"):
        environment.add_python_archive("lib.zip", "data")


def test_sources_of_java_are_refused(environment: StreamExecutionEnvironment) -> None:
    """Both say what to use instead."""
    for call in (environment.add_source, environment.create_input):
        with pytest.raises(PyFlinkImportError) as caught:
            call(object())
        assert caught.value.hint


@pytest.mark.parametrize("text", ["a", "a:b:c", "a,b", ":,"])
def test_a_mapping_that_is_none_is_refused(text: str) -> None:
    """Only pairs are read."""
    with pytest.raises(ConfigurationError):
        read_map_text(text)


@pytest.mark.parametrize("values", [{}, {"a": "1"}, {"'": "''"}, {"": " x "}, {"a,b": "c:d;e", "f": '"'}])
def test_a_mapping_survives_its_text(values: dict[str, str]) -> None:
    """Whatever stands in keys and values."""
    assert read_map_text(map_text(values)) == values


def test_the_members_are_pyflinks() -> None:
    """As many as the reference counts, by class."""

    def members(kind: type) -> set[str]:
        return {name for name in dir(kind) if not name.startswith("_")}

    assert len(members(ExecutionConfig)) == 39
    assert len(members(CheckpointConfig)) >= 27
    assert len(members(Configuration)) >= 18
