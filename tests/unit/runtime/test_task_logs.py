"""Reading task logs back: newest lines, whole lines, only one's own."""

from zmflow.runtime.task_logs import TaskLogs, task_log_path


def write(log_dir, job_id, allocation_id, lines):
    """A task log with these lines."""
    path = task_log_path(log_dir, job_id, allocation_id)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))


def test_lines_of_all_workers_in_order_of_time(tmp_path):
    """Lines of a job's workers are merged by their leading timestamps."""
    logs = TaskLogs(tmp_path)
    for allocation, lines in (("a1-1", ["1 a", "3 c"]), ("a1-2", ["2 b", "4 d"])):
        logs.started("j", allocation)
        write(tmp_path, "j", allocation, lines)
    assert logs.newest("j", 1000) == b"1 a\n2 b\n3 c\n4 d\n"


def test_bound_keeps_the_newest_whole_lines(tmp_path):
    """At most so many bytes come back: the newest lines, none of them cut."""
    logs = TaskLogs(tmp_path)
    logs.started("j", "a1-1")
    write(tmp_path, "j", "a1-1", [f"{i:03} line" for i in range(100)])
    for bound in range(40):
        text = logs.newest("j", bound)
        assert len(text) <= bound
        lines = text.decode().splitlines()
        assert lines == [f"{i:03} line" for i in range(100 - len(lines), 100)]


def test_unknown_jobs_and_half_lines(tmp_path):
    """A job that never ran here, a path that is no id, and a line being written give nothing."""
    logs = TaskLogs(tmp_path)
    write(tmp_path, "j", "a1-1", ["whole"])
    assert logs.newest("j", 1000) == b""
    assert logs.newest("../../etc", 1000) == b""
    logs.started("j", "a1-1")
    path = task_log_path(tmp_path, "j", "a1-1")
    path.write_text("whole\nhal")
    assert logs.newest("j", 1000) == b"whole\n"
