"""A notebook that nbconvert runs and exports shows its rows to a reader without kernel and network."""

from __future__ import annotations

import pytest

CELLS = (
    "import time\nimport pandas as pd\nimport rtwidgets as rt\nframe = pd.DataFrame({'x': [1, 2], 'v': [70001, 70002]})",
    "chart = rt.LiveChart(frame, 'x', 'v')\nrt.wait_for(lambda: chart.ready)\nchart",
    "@rt.live(frame)\ndef view(rows):\n    print('printed in a view')\n    return rows + 1_000\nview",
)


@pytest.mark.slow
@pytest.mark.parametrize("state", [True, False], ids=["with widget state", "without widget state"])
def test_the_export_has_the_rows(state: bool) -> None:
    # Here, since they take a second, and the tests of `make check` do without.
    import nbformat
    from nbconvert.exporters import HTMLExporter
    from nbconvert.preprocessors import ExecutePreprocessor

    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS])
    ExecutePreprocessor(timeout=60, kernel_name="python3", store_widget_state=state).preprocess(notebook, {})
    assert ("widgets" in notebook.metadata) is state
    page, _ = HTMLExporter().from_notebook_node(notebook)
    assert "70002.0</td>" in page
    assert "71002</td>" in page
    assert "<pre>printed in a view" in page
    assert page.count("run the notebook to see it live") == 2
