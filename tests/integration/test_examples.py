"""Every example runs as a program and through ``zmflow run``; results are checked against plain Python."""

from __future__ import annotations

import collections
import csv
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
TIMEOUT_S = 90

pytestmark = pytest.mark.integration

PYTHON = "python"
RUN = "zmflow run"


def run_example(
    way: str, name: str, *arguments: str, cwd: Path, parallelism: int = 2
) -> subprocess.CompletedProcess[str]:
    """Runs an example to its end, one way or the other."""
    script = str(EXAMPLES / name)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("ZMFLOW_")}
    environment |= {"HOME": str(cwd), "ZMFLOW_EXECUTION_TARGET": "embedded", "COLUMNS": "100"}
    if way == PYTHON:
        command = [sys.executable, script, *arguments]
        environment["ZMFLOW_PARALLELISM_DEFAULT"] = str(parallelism)
    else:
        zmflow = str(Path(sys.executable).with_name("zmflow"))
        command = [zmflow, "run", "-p", str(parallelism), script, "--", *arguments]
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )


def output_of(way: str, name: str, *arguments: str, cwd: Path, parallelism: int = 2) -> str:
    """What a successful run prints."""
    done = run_example(way, name, *arguments, cwd=cwd, parallelism=parallelism)
    assert done.returncode == 0, done.stderr
    return done.stdout


def counts_of(*files: Path, errors: str = "strict") -> collections.Counter[str]:
    """The counts by an independent program."""
    counts: collections.Counter[str] = collections.Counter()
    for file in files:
        text = file.read_bytes().decode("utf-8-sig", errors)
        # Lines end at line feeds only; no word spans one.
        counts.update(re.findall(r"[^\W\d_]+", text.lower()))
    return counts


def texts(directory: Path) -> list[Path]:
    """Some files of text with awkward contents."""
    contents = {
        "a.txt": "the cat\nthe dog\r\nTHE END",
        "sub/b.txt": "über Öl\u2028und die\x0bstraße\n" * 500,
        "sub/c.txt": "",
        "sub/.hidden": "hidden",
        "d.txt": "\n\n one\n" * 100,
    }
    files = []
    for name, text in contents.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode())
        if not path.name.startswith("."):
            files.append(path)
    return files


@pytest.mark.parametrize("way", [PYTHON, RUN])
@pytest.mark.parametrize("parallelism", [1, 3])
def test_word_count_writes_every_count(tmp_path: Path, way: str, parallelism: int) -> None:
    """Counts are exact at any parallelism and the part files are as many as the sink's subtasks."""
    files = texts(tmp_path / "in")
    output_of(
        way,
        "word_count.py",
        "--input",
        "in",
        "--output",
        "out",
        cwd=tmp_path,
        parallelism=parallelism,
    )
    parts = sorted((tmp_path / "out").iterdir())
    assert [part.name for part in parts] == [f"part-{i}" for i in range(parallelism)]
    pairs = [line.split("\t") for part in parts for line in part.read_text(encoding="utf-8").splitlines()]
    assert len({word for word, _ in pairs}) == len(pairs)
    assert {word: int(count) for word, count in pairs} == counts_of(*files)


def test_word_count_of_the_standard_library_on_screen(tmp_path: Path) -> None:
    """Without options it reads Python's own sources; the table shows the most frequent words."""
    import sysconfig

    library = Path(sysconfig.get_path("stdlib"))
    files = [
        path
        for path in library.rglob("*.py")
        if not any(
            part.startswith(".") or part in ("site-packages", "dist-packages")
            for part in path.relative_to(library).parts
        )
    ]
    expected = counts_of(*files, errors="replace")
    printed = output_of(PYTHON, "word_count.py", "--top", "3", cwd=tmp_path)
    top = sorted(expected.items(), key=lambda pair: (-pair[1], pair[0]))[:3]
    rows = [line.split() for line in printed.splitlines()]
    for word, count in top:
        assert [word, f"{count:,}"] in rows
    assert f"{expected.total():,} words, {len(expected):,} of them different" in printed


def test_word_count_refuses_to_mix_results(tmp_path: Path) -> None:
    """A second run into the same directory fails with a sentence, unless told to overwrite."""
    texts(tmp_path / "in")
    arguments = ["--input", "in", "--output", "out"]
    output_of(PYTHON, "word_count.py", *arguments, cwd=tmp_path)
    again = run_example(RUN, "word_count.py", *arguments, cwd=tmp_path)
    assert again.returncode == 1
    assert "holds part files already" in again.stderr
    output_of(RUN, "word_count.py", *arguments, "--overwrite", cwd=tmp_path)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--input", "missing.txt"], "No such file or directory"),
        (["--input", "file.txt/x"], "Not a directory"),
        (["--input", "empty"], "holds no file"),
        (["--input", "file.txt"], "byte 2"),
    ],
)
def test_word_count_of_bad_input(tmp_path: Path, arguments: list[str], reason: str) -> None:
    """Each mistake ends with a non-zero exit code and names what is wrong and where."""
    (tmp_path / "file.txt").write_bytes(b"a\n\xff\n")
    (tmp_path / "empty").mkdir()
    failed = run_example(RUN, "word_count.py", *arguments, cwd=tmp_path)
    assert failed.returncode == 1
    assert reason in failed.stderr
    assert arguments[-1] in failed.stderr


def test_word_count_replaces_undecodable_bytes_on_request(tmp_path: Path) -> None:
    """The policy is an option."""
    (tmp_path / "file.txt").write_bytes(b"a \xff b\n")
    printed = output_of(PYTHON, "word_count.py", "--input", "file.txt", "--errors", "replace", cwd=tmp_path)
    assert "2 words, 2 of them different" in printed


@pytest.mark.parametrize("way", [PYTHON, RUN])
def test_stateless_chain_prints_every_square(tmp_path: Path, way: str) -> None:
    """Each square is printed once, with the subtask in front."""
    printed = output_of(way, "stateless_chain.py", "--numbers", "50", cwd=tmp_path)
    lines = re.findall(r"^[12]> (.*)$", printed, re.MULTILINE)
    assert sorted(lines) == sorted(f"{n} x {n} = {n * n}" for n in range(1, 51, 2))


@pytest.mark.parametrize("way", [PYTHON, RUN])
def test_csv_aggregate_adds_up(tmp_path: Path, way: str) -> None:
    """The totals of the sample are those of a plain loop over the same file."""
    sys.path.insert(0, str(EXAMPLES))
    try:
        import csv_aggregate
    finally:
        sys.path.remove(str(EXAMPLES))
    path = csv_aggregate.make_sample(tmp_path / "sales.csv")
    expected: dict[str, list[int]] = {}
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            total = expected.setdefault(row["city"], [0, 0, 0])
            total[0] += 1
            total[1] += int(row["quantity"])
            total[2] += int(row["quantity"]) * int(row["price_cents"])
    for arguments in ([], ["--input", "sales.csv"]):
        printed = output_of(way, "csv_aggregate.py", *arguments, cwd=tmp_path)
        rows = {" ".join(line.split()) for line in printed.splitlines()}
        for city, (sales, quantity, cents) in expected.items():
            assert f"{city} {sales} {quantity} {cents / 100:.2f}" in rows


def test_csv_aggregate_names_a_malformed_line(tmp_path: Path) -> None:
    """The line is found and shown."""
    (tmp_path / "sales.csv").write_text(
        "city,product,quantity,price_cents\nBern,wine,1,100\nBern,wine,one,100\n"
    )
    failed = run_example(RUN, "csv_aggregate.py", "--input", "sales.csv", cwd=tmp_path)
    assert failed.returncode == 1
    assert "line 3" in failed.stderr
    assert "Bern,wine,one,100" in failed.stderr
