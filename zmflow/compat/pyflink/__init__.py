"""PyFlink's modules and names, resolved to zmflow: what ``zmflow run --pyflink job.py`` runs a job with.

Every module of PyFlink's DataStream API exists below this one under the same path, and ``pyflink_imports()``
makes ``pyflink`` another name of it. Which names each module has stands in ``names``; they are looked up when
they are asked for. What needs a JVM is refused with what to use instead.

>>> from zmflow.compat.pyflink.datastream import StreamExecutionEnvironment
>>> from zmflow.compat.pyflink.common import Types
"""

from zmflow.compat.pyflink.finder import install, pyflink_imports, register

__all__ = ["install", "pyflink_imports"]

register()
