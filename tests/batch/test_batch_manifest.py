"""What a manifest may hold, and what becomes of what it may not."""

from __future__ import annotations

from pathlib import Path

import pytest

from emo_rt import ConfigError, InputError, Request
from emo_rt.batch import read_manifest
from tests.batch.conftest import Manifest, row


def test_options_beside_the_inputs_or_in_an_object(manifest: Manifest, inputs: Path) -> None:
    path = manifest(row("a", seed=7), {"id": 2, "portrait": "/x/b.png", "voice": "v.wav", "options": {"seed": 7}})
    first, second = read_manifest(path)
    assert [(one.number, one.id, one.error) for one in (first, second)] == [(1, "a", None), (2, "2", None)]
    assert Request.from_dict(first.fields).animate.seed == Request.from_dict(second.fields).animate.seed == 7
    assert (first.fields["portrait"], second.fields["portrait"]) == (str(inputs / "a.png"), "/x/b.png")
    assert first.options_sha256 == Request.from_dict(first.fields).digest()


def test_every_file_is_looked_for_beside_the_manifest(manifest: Manifest, inputs: Path) -> None:
    (found,) = read_manifest(manifest(row("a", landmarks="l.npy", masks=["1.png", "2.png", "3.png"])))
    assert found.fields["landmarks"] == str(inputs / "l.npy")
    assert found.fields["masks"] == [str(inputs / f"{n}.png") for n in (1, 2, 3)]


@pytest.mark.parametrize(
    ("line", "error", "message"),
    [
        ("{oops", InputError, "line 2 is no JSON"),
        ("[1]", InputError, "line 2 is a list"),
        ('{"portrait": "a.png", "voice": "v.wav"}', ConfigError, "id of row 2 is None"),
        ('{"id": true, "portrait": "a.png", "voice": "v.wav"}', ConfigError, "id of row 2 is True"),
        ('{"id": "b", "portrait": "a.png"}', ConfigError, "voice"),
        ('{"id": "b", "portrait": "a.png", "voice": "v.wav", "stepz": 2}', ConfigError, "steps"),
        ('{"id": "b", "portrait": "a.png", "voice": "v.wav", "steps": 0}', ConfigError, "steps is 0"),
        ('{"id": "b", "portrait": "a.png", "voice": "v.wav", "options": 3}', ConfigError, "options is 3"),
        ('{"id": "b", "portrait": "a.png", "voice": "v", "seed": 1, "options": {"seed": 2}}', ConfigError, "seed is"),
        ('{"id": "a", "portrait": "a.png", "voice": "v.wav"}', ConfigError, "id 'a' is that of row 1"),
    ],
)
def test_a_bad_row_has_an_error_and_the_others_none(
    manifest: Manifest, line: str, error: type[Exception], message: str
) -> None:
    first, bad, last = read_manifest(manifest(row("a"), line, row("z")))
    assert (first.error, last.error) == (None, None)
    assert type(bad.error) is error
    assert message in str(bad.error)


def test_empty_lines_are_no_rows(manifest: Manifest) -> None:
    assert [found.id for found in read_manifest(manifest("", row("a"), " ", row("b")))] == ["a", "b"]


def test_csv_cells_are_written_as_on_the_command_line(inputs: Path) -> None:
    path = inputs / "rows.csv"
    path.write_text(
        "id,portrait,voice,seed,face_box,paste_back,options\n"
        'a,a.png,v.wav,7,"1,2,30,40",false,\n'
        'b,a.png,v.wav,,,,"{""steps"": 3}"\n'
        "c,a.png,v.wav,x,,,\n"
        "d,a.png,v.wav,,,,{oops\n"
        "e,a.png,v.wav,,,,,more\n",
        encoding="utf-8",
    )
    a, b, *bad = read_manifest(path)
    request = Request.from_dict(a.fields)
    assert (request.animate.seed, request.animate.paste_back) == (7, False)
    assert request.prepare.face_box == Request.from_dict({**a.fields, "face_box": [1, 2, 30, 40]}).prepare.face_box
    assert Request.from_dict(b.fields).animate.steps == 3
    assert [str(one.error).split(";")[0] for one in bad] == [
        "seed is 'x'",
        "options is '{oops'",
        "line 6 has more cells than the header",
    ]


@pytest.mark.parametrize(
    ("name", "content", "error"),
    [
        ("rows.txt", b"{}", ConfigError),
        ("rows.jsonl", b"\n", InputError),
        ("rows.csv", b"id,portrait,voice\n\xff,a,b\n", InputError),
        ("none.jsonl", None, InputError),
    ],
)
def test_a_manifest_that_is_none(inputs: Path, name: str, content: bytes | None, error: type[Exception]) -> None:
    if content is not None:
        (inputs / name).write_bytes(content)
    with pytest.raises(error, match="manifest"):
        read_manifest(inputs / name)
