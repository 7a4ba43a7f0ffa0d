"""StreamExecutionEnvironment: settings, sources, executions, and what it submits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from submissions import KeepingExecutor, new_environment, operators_of

from zmflow import Configuration, RuntimeExecutionMode, SequenceSource, StreamExecutionEnvironment
from zmflow.api.environment import environment_context
from zmflow.api.operators import KeyedAggregateOperator, KeyedReduceOperator
from zmflow.config import Settings
from zmflow.errors import ConfigurationError, JobGraphError


def test_worked_example_plans_as_the_documentation_says() -> None:
    """source, filter, map, keyed sum, sink at parallelism 2: 10 subtasks, 2 chains, 4 tasks, 2 slots."""
    from zmflow.graph.explain import describe

    env, executor = new_environment()
    mapped = env.from_sequence(1, 9).filter(lambda x: x % 2).map(lambda x: (x % 3, x))
    mapped.key_by(lambda pair: pair[0]).sum(1).print()
    assert env.execute("five").get_net_runtime() == 5
    plan = describe(executor.graphs[0])
    numbers = (plan.operators, plan.vertices, plan.subtasks, plan.tasks, plan.slots_required)
    assert numbers == (5, 2, 10, 4, 2)
    assert [vertex.name for vertex in executor.graphs[0].vertices] == [
        "Source: Sequence Source -> Filter -> Map",
        "Sum -> Sink: Print to Std. Out",
    ]


def test_each_execution_forgets_what_it_ran() -> None:
    """Jobs run in turn; a stream of an earlier job can be built upon again."""
    env, executor = new_environment()
    numbers = env.from_sequence(1, 3)
    numbers.print()
    env.execute("one")
    with pytest.raises(JobGraphError, match="no operators"):
        env.execute("nothing")
    numbers.map(str).print()
    env.execute("two")
    assert [graph.name for graph in executor.graphs] == ["one", "two"]
    assert [len(operators_of(graph)) for graph in executor.graphs] == [2, 3]


def test_a_refused_job_is_not_forgotten() -> None:
    """What is wrong can be put right and executed."""
    env, executor = new_environment()
    numbers = env.from_sequence(1, 3)
    with pytest.raises(JobGraphError, match="sink"):
        env.execute()
    numbers.print()
    env.execute()
    assert len(executor.graphs) == 1


def test_program_wins_over_context_and_configuration_over_both() -> None:
    """Settings come from the context, then the Configuration, then the program's calls."""
    with environment_context(Settings().with_values({"parallelism.default": "3"}, "-D"), KeepingExecutor()):
        env = StreamExecutionEnvironment.get_execution_environment()
        assert env.get_parallelism() == 3
        configured = StreamExecutionEnvironment.get_execution_environment(
            Configuration().set_integer("parallelism.default", 5)
        )
        assert configured.get_parallelism() == 5
        assert configured.set_parallelism(7).get_parallelism() == 7


def test_default_parallelism_depends_on_the_target() -> None:
    """Cores on the embedded cluster, 1 on a remote one."""
    embedded = StreamExecutionEnvironment(Settings())
    assert embedded.get_parallelism() == len(os.sched_getaffinity(0))
    remote = StreamExecutionEnvironment(Settings().with_values({"jobmanager.rpc.address": "host"}, "t"))
    assert remote.get_parallelism() == 1


def test_settings_travel_with_the_job() -> None:
    """What was set, and only that, is in the JobGraph."""
    env, executor = new_environment()
    env.set_buffer_timeout(0).set_max_parallelism(64).disable_operator_chaining()
    env.from_sequence(1, 2).print()
    env.execute()
    assert executor.graphs[0].settings == {
        "parallelism.default": "2",
        "execution.buffer-timeout.interval": "0 ms",
        "pipeline.max-parallelism": "64",
        "pipeline.operator-chaining.enabled": "false",
    }
    assert [vertex.max_parallelism for vertex in executor.graphs[0].vertices] == [64, 64]
    assert env.set_buffer_timeout(-1).get_buffer_timeout() == -1
    assert (env.get_max_parallelism(), env.is_chaining_enabled()) == (64, False)


@pytest.mark.parametrize("mode", list(RuntimeExecutionMode))
def test_runtime_mode_reaches_the_aggregates(mode: RuntimeExecutionMode) -> None:
    """BATCH asks keyed aggregates for final values only, also when it is set after they were added."""
    env, executor = new_environment()
    keyed = env.from_sequence(1, 9).key_by(lambda x: x % 2)
    keyed.sum().print()
    keyed.reduce(lambda a, b: a + b).print()
    env.set_runtime_mode(mode)
    env.execute()
    final = {
        operator.final_only
        for operator in operators_of(executor.graphs[0])
        if isinstance(operator, KeyedAggregateOperator | KeyedReduceOperator)
    }
    assert final == {mode is not RuntimeExecutionMode.STREAMING}  # AUTOMATIC: the sequence ends
    assert executor.graphs[0].runtime_mode == ("BATCH" if final == {True} else "STREAMING")


def test_endless_sources_are_streamed_automatically_and_refused_in_batch_mode() -> None:
    """One source that never ends decides for the job; workers get the mode that was chosen."""
    env, executor = new_environment()
    env.set_runtime_mode(RuntimeExecutionMode.AUTOMATIC)
    endless = SequenceSource(1, 9)
    endless.bounded = False
    env.from_source(endless).union(env.from_sequence(1, 9)).print()
    env.execute()
    graph = executor.graphs[0]
    assert (graph.runtime_mode, graph.settings["execution.runtime-mode"]) == ("STREAMING", "STREAMING")
    env.from_source(endless, source_name="ticks").print()
    env.set_runtime_mode(RuntimeExecutionMode.BATCH)
    with pytest.raises(JobGraphError, match="BATCH mode needs sources that end"):
        env.execute()


def test_execution_plan_is_flinks_json() -> None:
    """Operators before chaining with predecessors; asking for the plan runs and forgets nothing."""
    env, executor = new_environment()
    env.from_collection([1]).map(str).name("Text").set_parallelism(3).print()
    nodes = json.loads(env.get_execution_plan())["nodes"]
    assert [(node["id"], node["type"], node["pact"], node["parallelism"]) for node in nodes] == [
        (1, "Source: Collection Source", "Data Source", 1),
        (2, "Text", "Operator", 3),
        (3, "Sink: Print to Std. Out", "Data Sink", 2),
    ]
    assert nodes[1]["predecessors"] == [{"id": 1, "ship_strategy": "REBALANCE", "side": "second"}]
    env.execute()
    assert len(executor.graphs) == 1


def test_collections_are_read_by_one_subtask() -> None:
    """from_collection is not parallel and cannot be made so; empty collections are allowed."""
    env, executor = new_environment()
    stream = env.from_collection([])
    with pytest.raises(JobGraphError, match="'Source: Collection Source' is not parallel"):
        stream.set_parallelism(2)
    stream.set_parallelism(1).print()
    env.execute()
    vertex = executor.graphs[0].vertices[0]
    assert (vertex.parallelism, vertex.max_parallelism) == (1, 1)


def test_python_files_are_shipped(tmp_path: Path) -> None:
    """Files of add_python_file and of the setting python.files are in the job."""
    (tmp_path / "one.py").write_text("ONE = 1")
    (tmp_path / "two.py").write_text("TWO = 2")
    env, executor = new_environment(python__files=str(tmp_path / "two.py"))
    env.add_python_file(str(tmp_path / "one.py"))
    env.from_sequence(1, 2).print()
    env.execute()
    files = [(file.name, file.kind, file.content) for file in executor.graphs[0].files]
    assert files == [("one.py", "python", b"ONE = 1"), ("two.py", "python", b"TWO = 2")]


def test_misuse_of_the_environment() -> None:
    """Wrong arguments are refused at the call."""
    env, _ = new_environment()
    for parallelism in (0, -1, 40000, True, "2"):
        with pytest.raises(JobGraphError, match="parallelism of the environment"):
            env.set_parallelism(parallelism)  # type: ignore[arg-type]
    with pytest.raises(JobGraphError, match="takes a Source, not a list"):
        env.from_source([1])  # type: ignore[arg-type]
    with pytest.raises(JobGraphError, match="takes an iterable, not a int"):
        env.from_collection(5)  # type: ignore[arg-type]
    with pytest.raises(JobGraphError, match="has no elements"):
        env.from_sequence(2, 1)
    with pytest.raises(JobGraphError, match="takes a RuntimeExecutionMode"):
        env.set_runtime_mode("BATCH")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError):
        env.set_buffer_timeout(-2)


def test_import_is_cheap() -> None:
    """Importing zmflow loads neither the API nor what only some programs need; the API no cloudpickle."""
    check = (
        "import sys, zmflow; assert 'zmflow.api' not in sys.modules; "
        "zmflow.StreamExecutionEnvironment; assert 'zmflow.api' in sys.modules; "
        "assert not {'cloudpickle', 'rich', 'zmq', 'asyncio'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", check], check=True)


def test_the_package_offers_the_whole_api() -> None:
    """zmflow and zmflow.api export the same names."""
    import zmflow
    from zmflow import api
    from zmflow.api.names import MODULE_OF

    assert zmflow.__all__ == api.__all__
    assert sorted(MODULE_OF) == sorted(api.__all__)
    assert all(getattr(zmflow, name) is getattr(api, name) for name in api.__all__)
    assert set(zmflow.__all__) <= set(dir(zmflow))
    with pytest.raises(AttributeError, match="nothing_like_it"):
        zmflow.nothing_like_it
