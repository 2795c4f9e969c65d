"""The table of classes in models/README.md, held against what is there."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

import models.bert
import models.roberta
import models.rocbert
import models.roformer

ROOT = Path(__file__).parents[2]
README = (ROOT / "models" / "README.md").read_text(encoding="utf-8")
SECTION = README.partition("\n## Classes\n")[2].partition("\n## ")[0]
ROWS = re.findall(r"^\| `(\w+)` \| `([\w/.]+)` \| (.+) \|$", SECTION, re.MULTILINE)


@pytest.mark.parametrize(("name", "where", "proofs"), ROWS, ids=[name for name, _, _ in ROWS])
def test_a_class_is_where_the_table_says_and_its_test_names_it(name: str, where: str, proofs: str) -> None:
    package = importlib.import_module(".".join(where.split("/")[:2]))
    found = getattr(package, name)
    assert found.__module__ == where.removesuffix(".py").replace("/", ".")
    for proof in re.findall(r"`([\w/.]+)`", proofs):
        family = name.removesuffix("Config")
        assert re.search(rf"\b({name}|{family})\b", (ROOT / proof).read_text(encoding="utf-8")), proof


@pytest.mark.parametrize(
    "package", [models.roberta, models.roformer, models.rocbert, models.bert], ids=lambda p: p.__name__
)
def test_the_table_has_every_class(package: object) -> None:
    others = {"CamembertTokenizerFast", "XLMRobertaTokenizerFast"}  # of families whose documents are no seeds
    assert set(package.__all__) - others <= {name for name, _, _ in ROWS}  # type: ignore[attr-defined]
