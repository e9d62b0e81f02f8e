"""Generated documents are current."""

import pytest

from commands.docs import DOCS, GENERATED


@pytest.mark.parametrize("name", GENERATED)
def test_the_generated_document_is_current(name) -> None:
    assert (DOCS / name).read_text() == GENERATED[name](), "run `make docs`"
