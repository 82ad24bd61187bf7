"""What is shown while a run trains."""

import pytest

from tlx.training.writers import Progress


@pytest.mark.parametrize(
    ("start", "quiet", "said"), [(4, False, "mine: goes on after step 4 of 10\n"), (0, False, ""), (4, True, "")]
)
def test_where_a_run_goes_on(start: int, quiet: bool, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    Progress("mine", 10, start, quiet).close()
    assert capsys.readouterr().out == said
