"""The documentation check finds planted mistakes and accepts what is true."""

import check_docs
import pytest


@pytest.fixture
def tree(tmp_path):
    (tmp_path / "src/plan").mkdir(parents=True)
    (tmp_path / "src/cli").mkdir()
    (tmp_path / "docs").mkdir()
    (tmp_path / "src/plan/attention.cpp").write_text("struct Planner { int plan_it(); };\n")
    (tmp_path / "src/cli/doctor.cpp").write_text('auto name = "doctor";\n')
    (tmp_path / "Makefile").write_text("test: ## run\n\ttrue\n")
    return tmp_path


def problems(tree, text):
    (tree / "docs/page.md").write_text(text)
    return list(check_docs.problems(tree))


@pytest.mark.parametrize(
    "text",
    [
        "`src/plan/missing.cpp`",
        "`plan/missing.h`",
        "`src/<op>.cpp`",
        "`src/plan/{attention,missing}.cpp`",
        "`make launch`",
        "`quire fly --now`",
        "`Planner::fly_away`",
        "`fly_away()`",
        "[page](missing.md)",
        "```\nmake launch\n```",
    ],
)
def test_mistake_is_found(tree, text):
    assert len(problems(tree, text)) == 1


@pytest.mark.parametrize(
    "text",
    [
        "`src/plan/attention.cpp`",
        "`plan/<op>.cpp`",
        "`build/release/anything.so`",
        "`make test`",
        "`quire doctor`",
        "`Planner::plan_it`",
        "`plan_it(a, b)`",
        "[page](page.md#part)",
        "[site](https://example.org/x)",
        "```\nmake test\nfly_away()\n```",
    ],
)
def test_truth_passes(tree, text):
    assert problems(tree, text) == []
