"""Rows and files of model lists as hostile input: each bad row is skipped alone."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import pytest

from core.catalog import sync
from core.catalog.listing import read_file
from core.catalog.tables import Model, Provider
from core.errors import BadInput
from tests.catalog.listed import NOW, Catalogue, row


@pytest.mark.parametrize(
    "bad",
    [
        None, 7, "t/a", [], {}, {"id": None}, {"id": ""}, {"id": "t/a b"}, {"id": "t/" + "x" * 300},
        {"id": "t/a\x00"}, {"id": "demo/free-sailor"},
        row("t/bad", name=5), row("t/bad", description=[]), row("t/bad", context_length="8000"),
        row("t/bad", context_length=-1), row("t/bad", context_length=2**40),
        row("t/bad", architecture="text"), row("t/bad", top_provider=[]),
        row("t/bad", architecture={"input_modalities": "text"}),
        row("t/bad", supported_parameters=["x"] * 1_000), row("t/bad", expiration_date="soon"),
        row("t/bad", expiration_date=20261120),
    ],
    ids=lambda bad: str(bad)[:40].replace("\x00", "0"),
)  # fmt: skip
def test_a_bad_row_is_skipped_alone(catalogue: Catalogue, bad: object) -> None:
    report = catalogue.sync(bad, row("t/good"))
    assert (report.skipped, report.added) == (1, 1)
    assert catalogue.charged("t/good") == "0.000001"
    assert catalogue.session.get(Model, "t/bad") is None


def test_unknown_fields_are_ignored_and_texts_are_cut_and_cleaned(catalogue: Catalogue) -> None:
    catalogue.sync(
        row("t/a", name="A\x00B\n\ud800 C" + "x" * 500, description="y" * 9_000, new_field={"a": 1},
            pricing={"discount": 0.5, "new_rate": "-7"}, supported_parameters=["tools", 4, "NO!"])
    )  # fmt: skip
    model = catalogue.model("t/a")
    assert model.name.startswith("A B Cxxx")
    assert (len(model.name), len(model.description)) == (200, 2_000)
    assert model.supported_parameters == ["tools"]
    assert catalogue.prices("t/a")[0].terms == {"prompt": "0.000001", "completion": "0.000002"}


def test_the_second_row_of_an_id_is_skipped(catalogue: Catalogue) -> None:
    report = catalogue.sync(row("t/a"), row("t/a", "0.000002"))
    assert report.skipped == 1
    assert catalogue.charged("t/a") == "0.000001"


def test_a_provider_cannot_take_over_another_providers_model(catalogue: Catalogue) -> None:
    catalogue.sync(row("t/a"))
    catalogue.session.add(
        Provider(provider="thief", title="T", sends_cost=True, keeps_generations=True)
    )
    catalogue.session.flush()
    report = sync.apply(
        catalogue.session, "thief", [row("t/a", "0.000009")], source="file", now=NOW
    )
    assert report.skipped == 1
    assert catalogue.model("t/a").provider == "testing"
    assert catalogue.charged("t/a") == "0.000001"


def test_a_file_is_read_with_exact_amounts(tmp_path: Path) -> None:
    path = tmp_path / "models.json"
    path.write_text('{"data": [{"id": "t/a", "pricing": {"prompt": 7.9e-07}}]}')
    (read,) = read_file(path)
    assert isinstance(read, dict)
    assert read["pricing"]["prompt"] == Decimal("7.9e-07")
    path.write_text(json.dumps([row("t/a")]))
    assert read_file(path) == [row("t/a")]


@pytest.mark.parametrize("text", ["", "{", '{"data": 5}', "7", "[" * 100_000])
def test_a_file_that_is_no_model_list_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "models.json"
    path.write_text(text)
    with pytest.raises(BadInput, match=r"models\.json"):
        read_file(path)
    with pytest.raises(BadInput, match=r"absent\.json"):
        read_file(tmp_path / "absent.json")
