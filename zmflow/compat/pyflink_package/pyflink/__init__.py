"""PyFlink's place on a worker's import path: ``pyflink`` is another name of ``zmflow.compat.pyflink``."""

import sys

import zmflow.compat.pyflink

IS_ZMFLOW = True

zmflow.compat.pyflink.install()
sys.modules[__name__] = zmflow.compat.pyflink
