"""``ExecutionConfig``: how the jobs of an environment run, with PyFlink's members."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

from zmflow.api.operator_properties import checked_parallelism
from zmflow.api.program_settings import ProgramSettings
from zmflow.errors import ConfigurationError

__all__ = ["ExecutionConfig", "map_text", "read_map_text"]

_PARALLELISM = "parallelism.default"
_MAX_PARALLELISM = "pipeline.max-parallelism"
_JOB_PARAMETERS = "pipeline.global-job-parameters"


class ExecutionConfig(ProgramSettings):
    """Settings of an environment's jobs, as ``env.get_config()`` returns them.

    What is about Java's serializers (Kryo, Avro, generic types, object reuse, closures) is accepted and says
    once that it has no effect: records are Python objects, pickled.
    """

    PARALLELISM_DEFAULT = -1
    """For ``set_parallelism``: forget what was set."""
    PARALLELISM_UNKNOWN = -2
    """For ``set_parallelism``: leave it as it is."""

    # -- parallelism ----------------------------------------------------------------------------

    def get_parallelism(self) -> int:
        """What ``parallelism.default`` is; 0 stands for the CPU cores, or 1 on a remote cluster."""
        return self._integer(_PARALLELISM, 0)

    def set_parallelism(self, parallelism: int) -> Self:
        """Parallelism of operators added from now on that set none themselves.

        >>> from zmflow import StreamExecutionEnvironment
        >>> config = StreamExecutionEnvironment.get_execution_environment().get_config()
        >>> config.set_parallelism(3).set_parallelism(config.PARALLELISM_UNKNOWN).get_parallelism()
        3
        """
        if parallelism == self.PARALLELISM_UNKNOWN:
            return self
        if parallelism != self.PARALLELISM_DEFAULT:
            checked_parallelism(parallelism, "The parallelism of the environment")
        self._set(_PARALLELISM, str(max(parallelism, 0)))
        return self

    def get_max_parallelism(self) -> int:
        """The number of key groups of operators that set none themselves; 0: from the parallelism."""
        return self._integer(_MAX_PARALLELISM, 0)

    def set_max_parallelism(self, max_parallelism: int) -> Self:
        """Number of key groups of operators that set none themselves."""
        checked_parallelism(max_parallelism, "The max parallelism of the environment")
        self._set(_MAX_PARALLELISM, str(max_parallelism))
        return self

    # -- time -----------------------------------------------------------------------------------

    def get_auto_watermark_interval(self) -> int:
        """Milliseconds between periodic watermarks."""
        return self._milliseconds("pipeline.auto-watermark-interval", "200 ms")

    def set_auto_watermark_interval(self, interval: int) -> Self:
        """Milliseconds between periodic watermarks; 0 for none."""
        return self._put("pipeline.auto-watermark-interval", f"{interval} ms")

    def get_latency_tracking_interval(self) -> int:
        """Milliseconds between latency markers; 0: there are none."""
        return self._milliseconds("metrics.latency.interval", "0 ms")

    def set_latency_tracking_interval(self, interval: int) -> Self:
        """Milliseconds between latency markers."""
        return self._put("metrics.latency.interval", f"{interval} ms")

    def get_task_cancellation_interval(self) -> int:
        """Milliseconds between attempts to interrupt a task that is cancelled."""
        return self._milliseconds("task.cancellation.interval", "30 s")

    def set_task_cancellation_interval(self, interval: int) -> Self:
        """Milliseconds between attempts to interrupt a task that is cancelled."""
        return self._put("task.cancellation.interval", f"{interval} ms")

    def get_task_cancellation_timeout(self) -> int:
        """Milliseconds a cancelled task may take before its worker is killed."""
        return self._milliseconds("task.cancellation.timeout", "5 s")

    def set_task_cancellation_timeout(self, timeout: int) -> Self:
        """Milliseconds a cancelled task may take before its worker is killed."""
        return self._put("task.cancellation.timeout", f"{timeout} ms")

    # -- parameters and ids ---------------------------------------------------------------------

    def get_global_job_parameters(self) -> dict[str, str]:
        """What functions read with ``runtime_context.get_job_parameter(key, default)``."""
        return read_map_text(self._text(_JOB_PARAMETERS, ""))

    def set_global_job_parameters(self, global_job_parameters_dict: Mapping[str, object]) -> Self:
        """Give functions parameters: texts by name."""
        return self._put(_JOB_PARAMETERS, map_text(global_job_parameters_dict))

    def enable_auto_generated_uids(self) -> Self:
        """Let operators without ``uid`` have one made from the shape of the job."""
        return self._put("pipeline.auto-generate-uids", "true")

    def disable_auto_generated_uids(self) -> Self:
        """Ask for a ``uid`` at every operator."""
        return self._put("pipeline.auto-generate-uids", "false")

    def has_auto_generated_uids_enabled(self) -> bool:
        """Whether operators without ``uid`` have one made."""
        return self._boolean("pipeline.auto-generate-uids", True)

    def is_use_snapshot_compression(self) -> bool:
        """Whether snapshots are compressed."""
        return self._boolean("execution.checkpointing.snapshot-compression", False)

    def set_use_snapshot_compression(self, use_snapshot_compression: bool) -> Self:
        """Compress snapshots, or not."""
        return self._switch("execution.checkpointing.snapshot-compression", use_snapshot_compression)

    # -- Java's serializers ---------------------------------------------------------------------

    def enable_closure_cleaner(self) -> Self:
        """Without effect: Python's closures hold what they use and nothing else."""
        return self._put("pipeline.closure-cleaner-level", "RECURSIVE")

    def disable_closure_cleaner(self) -> Self:
        """Without effect: Python's closures hold what they use and nothing else."""
        return self._put("pipeline.closure-cleaner-level", "NONE")

    def is_closure_cleaner_enabled(self) -> bool:
        """What was set; true."""
        return self._text("pipeline.closure-cleaner-level", "RECURSIVE") != "NONE"

    def enable_force_kryo(self) -> Self:
        """Without effect."""
        return self._switch("pipeline.force-kryo", True)

    def disable_force_kryo(self) -> Self:
        """Without effect."""
        return self._switch("pipeline.force-kryo", False)

    def is_force_kryo_enabled(self) -> bool:
        """What was set; false."""
        return self._boolean("pipeline.force-kryo", False)

    def enable_generic_types(self) -> Self:
        """Without effect."""
        return self._switch("pipeline.generic-types", True)

    def disable_generic_types(self) -> Self:
        """Without effect."""
        return self._switch("pipeline.generic-types", False)

    def has_generic_types_disabled(self) -> bool:
        """What was set; false."""
        return not self._boolean("pipeline.generic-types", True)

    def enable_force_avro(self) -> Self:
        """Without effect."""
        return self._switch("pipeline.force-avro", True)

    def disable_force_avro(self) -> Self:
        """Without effect."""
        return self._switch("pipeline.force-avro", False)

    def is_force_avro_enabled(self) -> bool:
        """What was set; false."""
        return self._boolean("pipeline.force-avro", False)

    def enable_object_reuse(self) -> Self:
        """Without effect: operators of a chain hand objects on by reference."""
        return self._switch("pipeline.object-reuse", True)

    def disable_object_reuse(self) -> Self:
        """Without effect: operators of a chain hand objects on by reference."""
        return self._switch("pipeline.object-reuse", False)

    def is_object_reuse_enabled(self) -> bool:
        """What was set; false."""
        return self._boolean("pipeline.object-reuse", False)

    def get_default_kryo_serializer_classes(self) -> dict[str, str]:
        """None: there is no Kryo."""
        return {}

    def get_registered_kryo_types(self) -> list[str]:
        """None: there is no Kryo."""
        return []

    def get_registered_pojo_types(self) -> list[str]:
        """None: there are no POJOs."""
        return []

    # -- inside ---------------------------------------------------------------------------------

    def _put(self, key: str, value: str) -> Self:
        self._set(key, value)
        return self

    def _switch(self, key: str, value: bool) -> Self:
        return self._put(key, "true" if value else "false")


def map_text(values: Mapping[str, object]) -> str:
    """A mapping as Flink writes it into a setting: ``a:1,b:2``; in quotes what has such characters itself.

    >>> map_text({"a": 1, "b": "x,y"})
    "a:1,b:'x,y'"
    """
    return ",".join(f"{_quoted(str(key))}:{_quoted(str(value))}" for key, value in values.items())


def _quoted(text: str) -> str:
    plain = text and text == text.strip() and not any(character in text for character in ",:;'\"")
    return text if plain else "'" + text.replace("'", "''") + "'"


def read_map_text(text: str) -> dict[str, str]:
    """The mapping that ``map_text`` wrote.

    Raises:
        ConfigurationError: the text is no list of pairs.

    >>> read_map_text("a:1,b:'x,y'")
    {'a': '1', 'b': 'x,y'}
    """
    parts, quoted, ends = [""], False, []
    for position, character in enumerate(text):
        if character == "'":
            if not quoted and position and text[position - 1] == "'":
                parts[-1] += "'"  # two in a row inside quotes stand for one
            quoted = not quoted
        elif character in ",:" and not quoted:
            ends.append(character)
            parts.append("")
        else:
            parts[-1] += character
    if not text:
        return {}
    if len(parts) % 2 or ends != [":", ","] * (len(parts) // 2 - 1) + [":"]:
        raise ConfigurationError(
            f"The setting {_JOB_PARAMETERS} is not a list of pairs: {text!r}.", hint="Write a:1,b:'x,y'."
        )
    return dict(zip(parts[::2], parts[1::2], strict=True))
