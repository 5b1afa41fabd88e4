"""Prefect's own standards for the blocks of an integration."""

from __future__ import annotations

import tomllib
from pathlib import Path
from urllib.error import HTTPError, URLError

import pytest
from prefect.blocks.core import Block
from prefect.testing.standard_test_suites import BlockStandardTestSuite

import blocks

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"
OURS = [kind for kind in (getattr(blocks, name) for name in blocks.__all__) if issubclass(kind, Block)]


@pytest.mark.parametrize("block", OURS)
class TestBlocks(BlockStandardTestSuite):
    """Each block: description, documentation, explained fields, an example to copy, a square logo."""

    @pytest.fixture
    def block(self, request: pytest.FixtureRequest) -> type[Block]:  # the suite asks for one; parametrize gives it
        raise NotImplementedError

    @pytest.mark.slow  # asks the hosts of the logos
    def test_has_a_valid_image(self, block: type[Block]) -> None:
        """Prefect takes no other URLs than http and https, so a logo cannot come with the package."""
        try:
            super().test_has_a_valid_image(block)
        except HTTPError:
            raise
        except URLError as error:
            pytest.skip(f"the logo's host cannot be reached from here: {error.reason}")


@pytest.mark.parametrize("block", OURS)
def test_it_names_the_address_of_the_project(block: type[Block]) -> None:
    """The address is the one of pyproject.toml."""
    urls = tomllib.loads(PYPROJECT.read_text())["project"]["urls"]

    assert str(block._to_block_type().documentation_url) == urls["Homepage"]
