"""Named queries in files."""

from pathlib import Path

import pytest

from services.kit.sql import Queries


def folder_with(path: Path, **files: str) -> Path:
    for name, text in files.items():
        (path / f"{name}.sql").write_text(text)
    return path


def test_queries_have_names(tmp_path: Path) -> None:
    queries = Queries.load(
        folder_with(
            tmp_path,
            orders="-- Orders.\n\n-- name: insert_order\nINSERT\n  1;\n\n-- name: find\n-- By id.\nSELECT;\n",
            outbox="-- name: claim_outbox\nSELECT 2;",
        )
    )
    assert queries.insert_order == "INSERT\n  1;"
    assert queries["claim_outbox"] == "SELECT 2;"
    assert sorted(queries) == ["claim_outbox", "find", "insert_order"]
    assert len(queries) == 3
    with pytest.raises(AttributeError, match="no query named typo"):
        _ = queries.typo


@pytest.mark.parametrize(
    "files",
    [
        {"a": "-- name: x\nSELECT 1;", "b": "-- name: x\nSELECT 2;"},
        {"a": "SELECT 1;\n-- name: x\nSELECT 2;"},
        {"a": "-- name: x\n\n-- name: y\nSELECT 1;"},
        {"a": "-- just words"},
        {},
    ],
)
def test_doubtful_files_are_refused(tmp_path: Path, files: dict[str, str]) -> None:
    with pytest.raises(ValueError):
        Queries.load(folder_with(tmp_path, **files))
