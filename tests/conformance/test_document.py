"""The list in docs/conformance.md and the tests of this folder hold each other to account."""

import ast
import re
from collections import Counter
from pathlib import Path

HERE = Path(__file__).parent
PAGE = (HERE.parents[1] / "docs" / "conformance.md").read_text()
ROW = re.compile(r"^\| ([A-Z]+-\d\d) \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", re.MULTILINE)
NAME = re.compile(r"test_([a-z]+)_(\d\d)_\w+")
MET, NOT_MET = PAGE.split("## Not met")


def by_id() -> dict[str, list[ast.AsyncFunctionDef | ast.FunctionDef]]:
    """The tests of each id."""
    found: dict[str, list[ast.AsyncFunctionDef | ast.FunctionDef]] = {}
    for path in HERE.glob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.AsyncFunctionDef | ast.FunctionDef) and (match := NAME.fullmatch(node.name)):
                found.setdefault(f"{match[1].upper()}-{match[2]}", []).append(node)
    return found


def expected_to_fail(node: ast.AsyncFunctionDef | ast.FunctionDef) -> bool:
    """Whether a test is marked by xfail."""
    return any("xfail" in ast.unparse(decorator) for decorator in node.decorator_list)


def test_every_id_is_listed_once():
    counts = Counter(row[0] for row in ROW.findall(PAGE))
    assert counts
    assert not [name for name, count in counts.items() if count > 1]
    lines = [line for line in PAGE.splitlines() if re.match(r"\| [A-Z]+-\d", line)]
    assert len(lines) == len(counts), "a line of the table that is not well formed"


def test_every_requirement_has_one_test_that_must_pass():
    found = by_id()
    for name, *_ in ROW.findall(MET):
        assert len(found.get(name, [])) == 1, name
        assert not expected_to_fail(found[name][0]), name


def test_what_is_not_met_has_no_test_that_passes():
    found = by_id()
    for name, *_ in ROW.findall(NOT_MET):
        assert all(expected_to_fail(node) for node in found.get(name, [])), name


def test_every_test_belongs_to_a_requirement():
    listed = {row[0] for row in ROW.findall(PAGE)}
    assert not set(by_id()) - listed


def test_the_sections_exist():
    sections = set((HERE / "sections.txt").read_text().split())
    for name, where, *_ in ROW.findall(PAGE):
        for one in where.split(", "):
            elsewhere = re.fullmatch(r"(PS3\.\d+ [A-Z]+(\.\d+)*|RFC \d+|Fetch standard)", one)
            assert elsewhere or one in sections, (name, one)
