"""Tasks: what is asked, that it is deterministic, and what is said of broken files."""

import json
import math
import shutil

import numpy as np
import pytest
import torch

from course_lib.data import IGNORED, TextCorpus, files, load_corpus, load_text, make_task
from course_lib.data.files import data_folder, read_compressed


def test_copy_asks_for_the_symbol_three_places_back():
    inputs, targets = make_task("copy", 16, seed=0).batch(0, 4)
    assert (targets[:, :3] == IGNORED).all()
    assert torch.equal(targets[:, 3:], inputs[:, :-3])


@pytest.mark.parametrize("context", [16, 17])
def test_recall_repeats_its_string_and_scores_the_second_half(context):
    inputs, targets = make_task("recall", context, seed=0).batch(0, 4)
    half = context // 2
    assert torch.equal(inputs[:, half : 2 * half], inputs[:, :half])
    assert (targets[:, :half] == IGNORED).all()
    assert torch.equal(targets[:, half:-1], inputs[:, half + 1 :])
    assert torch.equal(targets[:, -1], inputs[:, context % half])


def test_text_asks_for_the_next_character_in_its_own_part():
    task = make_task("text", 64, seed=0)
    inputs, targets = task.batch(0, 8, "validation")
    assert torch.equal(inputs[:, 1:], targets[:, :-1])
    held_out = task.corpus.decode(torch.from_numpy(task.corpus.validation.astype(np.int64)))
    assert task.corpus.decode(inputs[0]) in held_out


@pytest.mark.parametrize("kind", ["copy", "recall", "text"])
def test_a_batch_depends_on_seed_split_and_step_alone(kind):
    task, again, other = (make_task(kind, 16, seed=s) for s in (0, 0, 1))
    task.batch(3, 4)  # nothing is used up by looking
    assert torch.equal(task.batch(7, 4)[0], again.batch(7, 4)[0])
    assert not torch.equal(task.batch(7, 4)[0], task.batch(8, 4)[0])
    assert not torch.equal(task.batch(7, 4)[0], task.batch(7, 4, "validation")[0])
    assert not torch.equal(task.batch(7, 4)[0], other.batch(7, 4)[0])


def test_ngram_lines_of_a_text_that_can_be_counted_by_hand():
    corpus = TextCorpus.from_text("ab" * 1000, "ab")
    assert corpus.ngram_loss(1) == pytest.approx(math.log(2), rel=1e-3)
    # 1900 characters to count "ab" 950 and "ba" 949 times in; 100 to be judged on, 50 and 49 of them.
    ab, ba = (-math.log((n + 0.1) / (n + 0.2)) for n in (950, 949))
    assert corpus.ngram_loss(2) == pytest.approx((50 * ab + 49 * ba) / 99, rel=1e-6)


def test_ngram_lines_of_the_king_james_text():
    lines = [line.loss for line in make_task("text", 64, seed=0).references]
    assert lines == pytest.approx([3.025, 2.261, 1.700, 1.359], abs=5e-4)


def test_the_text_begins_as_it_should():
    assert load_text().startswith("In the beginning God created the heaven and the earth.\n")
    assert len(load_corpus().alphabet) == 62


def test_a_text_of_ones_own(tmp_path):
    own = tmp_path / "own.txt"
    own.write_text("śläñ日本 " * 200, encoding="utf-8")
    task = make_task("text", 8, seed=0, text=own)
    assert task.vocab == 7
    assert task.corpus.decode(task.corpus.encode("日本")) == "日本"


def test_a_text_shorter_than_a_context(tmp_path):
    own = tmp_path / "short.txt"
    own.write_text("too short")
    with pytest.raises(ValueError, match=r"short.txt has 9 characters.*expected at least 1300 for a context"):
        make_task("text", 64, seed=0, text=own)


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "No such file"), (b"\xff\xfe", "byte 0 is not UTF-8"), (b"", "is empty")],
)
def test_a_text_that_cannot_be_read(tmp_path, content, message):
    own = tmp_path / "own.txt"
    if content is not None:
        own.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        make_task("text", 8, seed=0, text=own)


def test_unknown_characters_and_tasks_and_texts():
    with pytest.raises(ValueError, match="'日' is not in King James text"):
        load_corpus().encode("日")
    with pytest.raises(ValueError, match="task is 'copi': expected one of.*did you mean 'copy'"):
        make_task("copi", 8, seed=0)
    with pytest.raises(ValueError, match="expected none for the task 'copy'"):
        make_task("copy", 8, seed=0, text="x.txt")
    with pytest.raises(ValueError, match="context is 3: expected a whole number of at least 4"):
        make_task("copy", 3, seed=0)


@pytest.fixture
def copied(tmp_path, monkeypatch):
    for name in ("kjv.txt.xz", "manifest.json"):
        shutil.copy(data_folder() / name, tmp_path)
    monkeypatch.setattr(files, "data_folder", lambda: tmp_path)
    return tmp_path


def test_a_corrupted_file(copied):
    path = copied / "kjv.txt.xz"
    raw = bytearray(path.read_bytes())
    raw[1000] ^= 1
    path.write_bytes(raw)
    with pytest.raises(ValueError, match=r"kjv.txt.xz: SHA-256 is .* expected .*to restore it: ") as error:
        read_compressed("kjv.txt.xz")
    assert "\n" not in str(error.value)


def test_a_truncated_file(copied):
    path = copied / "kjv.txt.xz"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"\(1000 bytes\), expected .*to restore it: "):
        read_compressed("kjv.txt.xz")


def test_a_missing_file(copied):
    (copied / "kjv.txt.xz").unlink()
    with pytest.raises(ValueError, match=r"kjv.txt.xz: expected a file of \d+ bytes.*to restore it: "):
        read_compressed("kjv.txt.xz")


@pytest.mark.parametrize("content", [None, "{", json.dumps([])[:1]])
def test_a_broken_manifest(copied, content):
    manifest = copied / "manifest.json"
    manifest.unlink() if content is None else manifest.write_text(content)
    with pytest.raises(ValueError, match=r"manifest.json: expected the course's data manifest"):
        read_compressed("kjv.txt.xz")
