"""The job's global parameters, as its functions read them."""

from __future__ import annotations

from zmflow.config import Settings
from zmflow.config.options import JOB_PARAMETERS

__all__ = ["job_parameters"]


def job_parameters(settings: Settings) -> dict[str, str]:
    """The parameters by name.

    >>> job_parameters(Settings().with_values({"pipeline.global-job-parameters": "a:1"}, "test"))
    {'a': '1'}
    """
    text = settings[JOB_PARAMETERS]
    if not text:
        return {}
    from zmflow.api.execution_config import read_map_text  # only for those who have any

    return read_map_text(text)
