"""Names in report.md are shown as they are, whatever Markdown would make of them."""

from __future__ import annotations

import pytest

from inversion.report.tables.table import ReportTable, Shown, code, code_block, literal


@pytest.mark.parametrize(("text", "markdown"), [
    ("vgg16:block1+transposed_conv", "vgg16:block1+transposed_conv"),
    ("0.23 dB (-0.29 to +1.12), p < 0.05", "0.23 dB (-0.29 to +1.12), p < 0.05"),
    ("clipped to [0, 1]", "clipped to [0, 1]"),
    ("a|b", r"a\|b"),
    ("`x`", r"\`x\`"),
    ("*x* **x**", r"\*x\* \*\*x\*\*"),
    ("_x_ a_b", r"\_x\_ a_b"),
    ("<script>", r"\<script>"),
    ("</b> <!-- x", r"\</b> \<!-- x"),
    ("[x](javascript:1)", r"[x]\(javascript:1)"),
    ("&lt;b&gt; a & b", "&amp;lt;b&amp;gt; a & b"),
    ("# x", r"\# x"),
    (r"C:\x", r"C:\\x"),
    ("\x1b[31m", r"\\x1b[31m"),
])
def test_a_line_is_no_markup(text: str, markdown: str) -> None:
    assert literal(text) == markdown


def test_a_cell_stays_one_cell_of_one_row() -> None:
    table = ReportTable("k", "a|b", [Shown("name", "{name}")], [{"name": "x|y\n| z `"}])
    assert table.markdown().splitlines()[0] == r"## a\|b"
    assert table.markdown().splitlines()[-1] == r"| x\|y \| z \` |"


def test_code_ends_where_it_ends() -> None:
    assert code("inversion-sweep x") == "`inversion-sweep x`"
    assert code("a `b`` c") == "``` a `b`` c ```"
    assert code_block("a:\n```\n\x1b\n", "yaml") == "````yaml\na:\n```\n\\x1b\n````"
