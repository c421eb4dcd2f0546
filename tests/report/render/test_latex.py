"""Tables for a paper: what LaTeX would typeset is what the report says."""

from __future__ import annotations

import re
from typing import Any

import pytest

from inversion.report.render.latex import escaped, latex
from inversion.report.tables.table import ReportTable, Shown

COLUMNS = [Shown("configuration", "{configuration}"), Shown("PSNR (dB)", "{psnr:.2f} ± {psnr_std:.2f}"),
           Shown("LPIPS", "{lpips:.3f}", "off"), Shown("difference (dB)", "{difference:+.2f}", "(reference)"),
           Shown("parameters", "{parameters:,.0f}")]


def row(name: str, psnr: float, lpips: float | None, **more: Any) -> dict[str, Any]:
    return {"configuration": name, "psnr": psnr, "psnr_std": 1.5, "lpips": lpips, "parameters": 33731, **more}


def test_a_table_is_a_float_of_booktabs() -> None:
    table = ReportTable("decoders", "Which decoder?", COLUMNS, [
        row("vgg16:block1+residual", 34.312, 0.007),
        row("vgg16:block1+frequency_aware", 25.5, 0.05, difference=-8.8123, holds="yes"),
        row("vgg16:block1+wavelet", 34.25, 0.006, difference=-0.0623, holds="no")], more=[Shown("p", "{p}")])
    assert latex(table) == r"""% \usepackage{booktabs}
\begin{table}
  \centering
  \caption{Which decoder? $^\dagger$ Does not hold up.}
  \label{tab:decoders}
  \begin{tabular}{lrrrr}
    \toprule
    configuration & PSNR (dB) & LPIPS & difference (dB) & parameters \\
    \midrule
    vgg16:block1+residual & \textbf{34.31 $\pm$ 1.50} & 0.007 & (reference) & 33,731 \\
    vgg16:block1+frequency\_aware & 25.50 $\pm$ 1.50 & 0.050 & $-$8.81 & 33,731 \\
    vgg16:block1+wavelet & 34.25 $\pm$ 1.50 & \textbf{0.006} & $-$0.06$^\dagger$ & 33,731 \\
    \bottomrule
  \end{tabular}
\end{table}
"""


def test_nothing_is_bold_where_all_are_equal_and_nothing_open_is_not_explained() -> None:
    made = latex(ReportTable("t", "T", COLUMNS, [row("a", 20, None), row("b", 20, None)]))
    assert "textbf" not in made
    assert "dagger" not in made
    assert made.count("off") == 2


@pytest.mark.parametrize(("text", "shown"), [
    ("100 % & $1", r"100 \% \& \$1"), ("a_b#c{d}", r"a\_b\#c\{d\}"), (r"\input{x}", r"\textbackslash{}input\{x\}"),
    ("a~b^c", r"a\textasciitilde{}b\textasciicircum{}c"), ("1 ± 2 – 3", r"1 $\pm$ 2 -- 3"),
    ("<b>|", r"\textless{}b\textgreater{}\textbar{}"), ("line\nbreak", r"line\textbackslash{}nbreak")])
def test_any_text_is_typeset_as_it_is(text: str, shown: str) -> None:
    assert escaped(text) == shown


def test_braces_and_maths_are_balanced_whatever_a_name_is() -> None:
    made = latex(ReportTable("t", "T", COLUMNS, [row(r"\x{_$%^~}&#", 20, 1.0), row("b", 21, 2.0)]))
    assert len(re.findall(r"(?<!\\)\$", made)) % 2 == 0
    assert len(re.findall(r"(?<!\\)\{", made)) == len(re.findall(r"(?<!\\)\}", made))
