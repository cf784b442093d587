"""Lists of image-score pairs, as people write them."""

import pytest

from dpiqa.errors import InvalidRequest, NotFound
from dpiqa.requirement import MAX_PAIRS, Pair, RequirementRequest, check_pairs, is_far, read_pairs
from dpiqa.types import Direction


@pytest.fixture
def write(tmp_path):
    """Give a function that writes a list and returns its file."""

    def write(text, **options):
        file = tmp_path / "pairs.csv"
        file.write_text(text, **({"encoding": "utf-8"} | options))
        return file

    return write


def test_paths_are_relative_to_the_list(write, tmp_path):
    text = 'path,score,note\na.jpg,0\n"sub/b, c.png",0.75,mine\n/abs/d.png,1\ns3://photos/e f?g.jpg,1e-1\n\n'
    assert read_pairs(write(text)) == (
        Pair(f"{tmp_path}/a.jpg", 0.0),
        Pair(f"{tmp_path}/sub/b, c.png", 0.75),
        Pair("/abs/d.png", 1.0),
        Pair("s3://photos/e f?g.jpg", 0.1),
    )


def test_spreadsheets_write_a_byte_order_mark(write):
    assert [pair.score for pair in read_pairs(write("score,path\n0.5,a.jpg\n", encoding="utf-8-sig"))] == [0.5]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: no column path and no column score"),
        ("image,score\na.jpg,0.5\n", "line 1: no column path"),
        ("path,score\na.jpg,0.5\nb.jpg,\n", "line 3: '' is not a valid score"),
        ("path,score\na.jpg\n", "line 2: None is not a valid score"),
        ("path,score\na.jpg,75\n", "line 2: '75' is not a valid score"),
        ("path,score\na.jpg,-0.1\n", "line 2"),
        ("path,score\na.jpg,nan\n", "line 2"),
        ('path,score\na.jpg,"0,5"\n', "line 2"),
        ("path,score\n,0.5\n", "line 2: no path"),
        ("path,score\na\x00.jpg,0.5\n", "line 2: no path"),
        ("path,score\ns3://photos,0.5\n", "line 2: s3://photos names a bucket"),
        ("path,score\ns3://?/k,0.5\n", "line 2: '\\?' is not a bucket name"),
        ("path,score\na,b.jpg,0.5\n", "line 2: more cells"),
        ('path,score\n"a.jpg,0.5\n', "not a CSV"),
    ],
)
def test_the_line_and_the_hint_are_named(write, text, message):
    with pytest.raises(InvalidRequest, match=message) as caught:
        read_pairs(write(text))
    assert caught.value.hint


def test_other_encodings_and_absent_files(write, tmp_path):
    with pytest.raises(InvalidRequest, match="not a CSV in UTF-8"):
        read_pairs(write("path,score\nä.jpg,0.5\n", encoding="utf-16"))
    with pytest.raises(NotFound):
        read_pairs(tmp_path / "nowhere.csv")
    with pytest.raises(InvalidRequest, match="cannot be read"):
        read_pairs(tmp_path)


def pairs(*scores):
    return tuple(Pair(f"/p/{number}.png", score) for number, score in enumerate(scores))


@pytest.mark.parametrize("scores", [(0, 0.1, 0.1, 0.2, 0.05), (0.7, 0.5, 0.5, 0.5, 0.5), (0.0,) * 4 + (1.0,)])
def test_enough_pairs_that_lie_apart(scores):
    check_pairs(pairs(*scores))


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ((0.0, 0.3, 0.6, 1.0), "not 4"),
        ((), "not 0"),
        ((0.0, 1.0) * (MAX_PAIRS // 2) + (0.5,), "not 201"),
        ((0.5,) * 5, "between 0.5 and 0.5"),
        ((0.4, 0.5, 0.5, 0.5, 0.59), "too close"),
    ],
)
def test_too_few_too_many_too_close(scores, message):
    with pytest.raises(InvalidRequest, match=message):
        check_pairs(pairs(*scores))


@pytest.mark.parametrize(
    ("paths", "scores", "message"),
    [
        ("aaaaa", (0, 0.25, 0.5, 0.75, 1), "name 1 different image, at least 5"),
        ("aabbccdd", (0, 0.1, 0.2, 0.3, 0.7, 0.8, 0.9, 1), "name 4 different images"),
        ("abcdee", (0, 0.25, 0.5, 0.75, 1, 1), "e is listed twice with the same score"),
    ],
)
def test_images_that_are_named_again(paths, scores, message):
    with pytest.raises(InvalidRequest, match=message):
        check_pairs([Pair(f"/{path}", score) for path, score in zip(paths, scores, strict=True)])
    check_pairs([Pair(f"/{path}", n / 5) for n, path in enumerate("abcdee")])  # a contradiction, which may be forced


def test_a_grade_is_a_fifth_of_the_scale():
    assert not is_far(0.7, 0.5)  # 0.19999999999999996
    assert not is_far(0.1, 0.3)
    assert is_far(0.3, 0.51)


def request(name="portraits", **changes):
    values = {"pairs": pairs(0, 0.25, 0.5, 0.75, 1), "direction": Direction.HIGHER, "model": "m"} | changes
    return RequirementRequest(name=name, **values)


@pytest.mark.parametrize("name", ["a", "portraits", "2024.q1_b-c", "x" * 63])
def test_names(name):
    request(name).check()


@pytest.mark.parametrize("name", ["", "A", "a:b", "a@1", "-a", "a b", "a\n", "ä", "x" * 64])
def test_invalid_names(name):
    with pytest.raises(InvalidRequest, match="not a valid name for a requirement"):
        request(name).check()


def test_equal_requests_and_equal_contents():
    digests = list("abcde")
    first = request()
    assert first.hash == request().hash
    turned = request(pairs=first.pairs[::-1])
    assert turned.hash != first.hash
    assert turned.content_hash(digests[::-1]) == first.content_hash(digests)
    assert first.content_hash(digests) != first.content_hash(digests[::-1])
    assert request(model="n").content_hash(digests) == first.content_hash(digests)
    other = request(direction=Direction.LOWER)
    assert other.content_hash(digests) != first.content_hash(digests)
    hashes = {first.hash, other.hash, request(model="n").hash, request(force=True).hash, request("b").hash}
    assert len(hashes) == 4  # versions are counted by name: it is not part of the hash


def test_where_a_pair_lies():
    ref = Pair("s3://photos/a/b c.jpg", 0.5).ref
    assert (ref.bucket, ref.key, ref.etag) == ("photos", "a/b c.jpg", "")
    assert (Pair("/a/b.jpg", 0.5).ref.bucket, Pair("/a/b.jpg", 0.5).ref.key) == ("", "/a/b.jpg")
