"""``StreamExecutionEnvironment`` for programs of PyFlink: what differs from zmflow's own."""

from __future__ import annotations

from typing import NoReturn

from zmflow import api
from zmflow.api.execution import Executor
from zmflow.compat.pyflink.configuration import Configuration, known_settings
from zmflow.compat.pyflink.jobs import JobClient
from zmflow.compat.pyflink.refusals import PyFlinkImportError
from zmflow.compat.pyflink_package import PACKAGE
from zmflow.config import Settings

__all__ = ["StreamExecutionEnvironment"]


class StreamExecutionEnvironment(api.StreamExecutionEnvironment):
    """zmflow's environment, as PyFlink spells it.

    Flink's settings that zmflow does not have are kept, with one warning each. Jobs bring the package
    ``pyflink`` along, so that functions and modules that import it can on a worker.
    """

    def __init__(self, settings: Settings, executor: Executor | None = None) -> None:
        super().__init__(settings, executor)
        self.add_python_file(PACKAGE)

    @staticmethod
    def get_execution_environment(
        configuration: api.Configuration | None = None,
    ) -> StreamExecutionEnvironment:
        """A new environment with the settings of this process and, above them, ``configuration``."""
        plain = api.StreamExecutionEnvironment.get_execution_environment()
        environment = StreamExecutionEnvironment(plain._settings, plain._executor)
        if configuration is not None:
            environment.configure(configuration)
        return environment

    def configure(self, configuration: api.Configuration) -> None:
        known = known_settings(configuration)
        super().configure(api.Configuration.from_dict(known))
        self._kept.update({key: text for key, text in configuration.to_dict().items() if key not in known})

    def get_configuration(self) -> Configuration:
        """A copy of everything that is set, settings that zmflow does not have included."""
        configuration = Configuration.from_dict(self._settings.texts())
        configuration._texts.update(self._kept)
        return configuration

    def execute_async(self, job_name: str | None = None) -> JobClient:  # type: ignore[override]  # as in PyFlink
        """Submit the operators added since the last execution and return at once."""
        return JobClient(super().execute_async(job_name))

    def execute(self, job_name: str | None = None) -> api.JobExecutionResult:
        return self._wait(super().execute_async(job_name))

    def add_source(self, source_func: object, *args: object, **kwargs: object) -> NoReturn:  # noqa: ARG002
        """Refused: a SourceFunction of PyFlink wraps a Java object."""
        raise PyFlinkImportError(
            "A SourceFunction of PyFlink wraps a Java object.",
            hint="Use from_source() with a Source written in Python, or from_collection().",
        )

    def create_input(self, input_format: object, *args: object, **kwargs: object) -> NoReturn:  # noqa: ARG002
        """Refused: an InputFormat of PyFlink wraps a Java object."""
        raise PyFlinkImportError(
            "An InputFormat of PyFlink wraps a Java object.",
            hint="Use from_source() with one of zmflow.connectors, such as CsvFileSource.",
        )
