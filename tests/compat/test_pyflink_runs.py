"""Programs of PyFlink through the command line: options, files, job clients, modules that import pyflink."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TIMEOUT_S = 90

pytestmark = pytest.mark.integration


def run(tmp_path: Path, text: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Run a script with this text under ``zmflow run --pyflink``."""
    script = tmp_path / "job.py"
    script.write_text(text, encoding="utf-8")
    environment = {key: value for key, value in os.environ.items() if not key.startswith("ZMFLOW_")}
    environment |= {"HOME": str(tmp_path), "ZMFLOW_EXECUTION_TARGET": "embedded"}
    zmflow = str(Path(sys.executable).with_name("zmflow"))
    return subprocess.run(
        [zmflow, "run", "--pyflink", "--no-progress", *options, str(script)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


BEGINNING = (
    "from pyflink.datastream import StreamExecutionEnvironment\n"
    "env = StreamExecutionEnvironment.get_execution_environment()\n"
    "env.set_parallelism(1)\n"
)


def test_functions_import_pyflink_on_the_worker(tmp_path: Path) -> None:
    """In the function itself, through a module object, and in a shipped module."""
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "rows.py").write_text(
        "from pyflink.common import Row\ndef row_of(value):\n    return Row(value)\n"
    )
    done = run(
        tmp_path,
        BEGINNING + "import pyflink.common as common\n"
        "def wrap(value):\n"
        "    from pyflink.common.types import Row\n"
        "    from rows import row_of\n"
        "    return common.Row(value), row_of(value) == Row(value)\n"
        "env.from_collection([1, 2]).map(wrap).print()\n"
        "env.execute()\n",
        "--py-files",
        "lib/rows.py",
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["(<Row(1)>, True)", "(<Row(2)>, True)"]


def test_metrics_are_registered_and_read(tmp_path: Path) -> None:
    """By function and trigger, with PyFlink's calls; types can be imported from pyflink.metrics."""
    done = run(
        tmp_path,
        "from pyflink.datastream import MapFunction, RuntimeContext\n"
        "from pyflink.metrics import Counter, Distribution, Meter, Metric, MetricGroup\n"
        + BEGINNING
        + "class Counted(MapFunction):\n"
        "    def open(self, runtime_context: RuntimeContext):\n"
        "        group = runtime_context.get_metrics_group()\n"
        "        self.counter = group.counter('my_counter')\n"
        "        self.sizes = group.add_group('key', 'value').distribution('my_distribution')\n"
        "        self.meter = group.meter('my_meter', time_span_in_seconds=120)\n"
        "        group.gauge('my_gauge', lambda: self.length)\n"
        "        kinds = (self.counter, Counter), (self.sizes, Distribution), (self.meter, Meter)\n"
        "        self.known = isinstance(group, MetricGroup) and all(\n"
        "            isinstance(metric, kind) and isinstance(metric, Metric) for metric, kind in kinds)\n"
        "    def map(self, value):\n"
        "        self.counter.inc()\n"
        "        self.counter.inc(2)\n"
        "        self.counter.dec()\n"
        "        self.length = len(value)\n"
        "        self.sizes.update(self.length)\n"
        "        self.meter.mark_event(self.length)\n"
        "        return self.counter.get_count(), self.meter.get_count(), self.known\n"
        "env.from_collection(['a', 'bc']).map(Counted()).print()\n"
        "env.execute()\n",
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["(2, 1, True)", "(4, 3, True)"]


def test_a_failed_job_shows_the_users_message(tmp_path: Path) -> None:
    """The exception that reaches the program has the function's own message in it."""
    done = run(
        tmp_path,
        BEGINNING + "def check(value):\n"
        "    raise ValueError(f'no {value} please')\n"
        "env.from_collection([1]).map(check).print()\n"
        "try:\n"
        "    env.execute()\n"
        "except Exception as error:\n"
        "    print('no 1 please' in str(error))\n",
    )
    assert done.stdout.splitlines() == ["True"]


def test_the_job_client_answers_with_futures(tmp_path: Path) -> None:
    """States are PyFlink's, and the result is waited for."""
    done = run(
        tmp_path,
        BEGINNING + "from pyflink.common import JobStatus\n"
        "env.from_collection([1]).print()\n"
        "client = env.execute_async('named')\n"
        "result = client.get_job_execution_result().result()\n"
        "print(str(client.get_job_id()) == str(result.get_job_id()), result.get_net_runtime() >= 0)\n"
        "print(JobStatus.FINISHED.is_terminal_state())\n",
    )
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.splitlines()) == ["1", "True", "True True"]


def test_files_are_read_and_written_with_pyflinks_builders(tmp_path: Path) -> None:
    """FileSource and FileSink take PyFlink's builders; the suffix of part files is the program's."""
    (tmp_path / "in.txt").write_text("a\nb\n")
    done = run(
        tmp_path,
        "from pyflink.common import Encoder\n"
        "from pyflink.datastream.connectors.file_system import FileSink, FileSource, OutputFileConfig\n"
        "from pyflink.datastream.connectors.file_system import RollingPolicy, StreamFormat\n"
        + BEGINNING
        + "source = FileSource.for_record_stream_format(StreamFormat.text_line_format(), 'in.txt')\n"
        "lines = env.from_source(source=source.process_static_file_set().build(), source_name='files')\n"
        "names = OutputFileConfig.builder().with_part_suffix('.ext').build()\n"
        "sink = FileSink.for_row_format('out', Encoder.simple_string_encoder())\n"
        "sink = sink.with_output_file_config(names)\n"
        "sink = sink.with_rolling_policy(RollingPolicy.default_rolling_policy())\n"
        "lines.map(str.upper).sink_to(sink.build())\n"
        "env.execute()\n",
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "part-0.ext").read_text() == "A\nB\n"


def test_the_table_api_ends_the_command_with_what_to_use(tmp_path: Path) -> None:
    """Importing it is an error of usage, without a traceback."""
    done = run(tmp_path, "from pyflink.table import TableEnvironment\n")
    assert done.returncode == 2
    assert "Table and SQL API" in done.stderr
    assert "DataStream API" in done.stderr
    assert "Traceback" not in done.stderr


def test_without_the_option_pyflink_is_what_is_installed(tmp_path: Path) -> None:
    """Nothing is replaced unless it was asked for."""
    script = tmp_path / "job.py"
    script.write_text("import pyflink\nprint(pyflink.__name__)\n")
    zmflow = str(Path(sys.executable).with_name("zmflow"))
    done = subprocess.run(
        [zmflow, "run", str(script)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert "zmflow.compat" not in done.stdout


def test_a_program_that_waits_twice_runs_two_jobs(tmp_path: Path) -> None:
    """Each execute forgets what it ran."""
    done = run(
        tmp_path,
        BEGINNING + "for number in (1, 2):\n    env.from_collection([number]).print()\n    env.execute()\n",
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["1", "2"]


def test_explain_resolves_imports_of_pyflink_too(tmp_path: Path) -> None:
    """The plan of a PyFlink program, without running it."""
    script = tmp_path / "job.py"
    script.write_text(BEGINNING + "env.from_collection([1]).map(str).print()\nenv.execute('plan')\n")
    zmflow = str(Path(sys.executable).with_name("zmflow"))
    done = subprocess.run(
        [zmflow, "explain", "--pyflink", "--json", str(script)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["job_name"] == "plan"


def test_accumulators_are_answered_with_a_future(tmp_path: Path) -> None:
    """get_accumulators() of the client answers at any time; at the end it has what all subtasks added."""
    done = run(
        tmp_path,
        BEGINNING + "from pyflink.datastream import MapFunction\n"
        "class Counted(MapFunction):\n"
        "    def open(self, context):\n"
        "        self.seen = context.get_int_counter('seen')\n"
        "    def map(self, value):\n"
        "        self.seen.add(1)\n"
        "        return value\n"
        "env.from_collection([1, 2]).map(Counted()).print()\n"
        "client = env.execute_async()\n"
        "assert client.get_accumulators().result().keys() <= {'seen'}\n"
        "client.get_job_execution_result().result()\n"
        "print(client.get_accumulators().result())\n",
    )
    assert done.returncode == 0, done.stderr
    assert "{'seen': 2}" in done.stdout.splitlines()
