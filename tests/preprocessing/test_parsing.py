import numpy as np
import pyarrow as pa
import pytest

from preprocessing.labels import LETTERS
from preprocessing.parsing import HEADER, PIXELS, parse_clean, parse_line


def line(label: object = 0, **pixels: object) -> str:
    values = ["7"] * PIXELS
    for name, value in pixels.items():
        values[int(name.removeprefix("pixel")) - 1] = str(value)
    return ",".join([str(label), *values])


def arrow(*lines: str) -> pa.StringArray:
    return pa.array([f"{line}\n" for line in lines], pa.string())


def test_a_line_becomes_its_letter_and_its_pixels_in_order() -> None:
    parsed = parse_line(line(2, pixel1=0, pixel784=255))
    assert parsed.label == "C"
    assert parsed.pixels == bytes([0, *[7] * 782, 255])
    assert parsed.reason is None


def test_the_header_has_the_label_and_784_pixels() -> None:
    assert HEADER.startswith("label,pixel1,pixel2,")
    assert HEADER.endswith(",pixel784")


@pytest.mark.parametrize(
    ("bad_line", "reason", "detail"),
    [
        (line(26), "label outside the letters", "26"),
        (line("-1"), "label outside the letters", "-1"),
        (line("x"), "label outside the letters", "x"),
        (line(9), "label J or Z", "J"),
        (line(25), "label J or Z", "Z"),
        (line(pixel17=""), "missing pixel", "pixel17"),
        (line(pixel3="1.5"), "pixel not an integer", "pixel3 is '1.5'"),
        (line(pixel3="0x1F"), "pixel not an integer", "0x1F"),
        (line(pixel3="nan"), "pixel not an integer", "nan"),
        (line(pixel5=256), "pixel out of range", "pixel5 is '256'"),
        (line(pixel784=299), "pixel out of range", "pixel784 is '299'"),
        (line(pixel5=300), "pixel out of range", "pixel5 is '300'"),
        (line(pixel5="9" * 5000), "pixel out of range", "pixel5"),
        (line(pixel5="-1"), "pixel not an integer", "-1"),
        (line() + ",7", "too many fields", "786"),
        (line().rsplit(",", 1)[0], "too few fields", "784"),
        ("3", "too few fields", "1, 785 expected"),
        ('"' + line(), "not CSV", ""),
    ],
)
def test_an_invalid_line_is_refused_with_the_invalid_value(bad_line: str, reason: str, detail: str) -> None:
    parsed = parse_line(bad_line)
    assert (parsed.reason, parsed.label, parsed.pixels) == (reason, None, None)
    assert detail in (parsed.detail or "")
    assert parse_clean(arrow(line(1), bad_line, line(3))) is None


@pytest.mark.parametrize("variant", [line(" 1 "), line('"1"'), line("01"), line(1, pixel4=" 007")])
def test_quotes_spaces_and_leading_zeros_do_not_change_a_number(variant: str) -> None:
    assert parse_line(variant) == parse_line(line(1))


def test_valid_lines_give_the_same_result_when_parsed_at_once() -> None:
    rng = np.random.default_rng(0)
    lines = [
        ",".join(map(str, [label, *rng.integers(0, 256, PIXELS)])) for label in (0, 8, 10, 24) * 100
    ] + [line("01", pixel4="007")]  # fmt: skip
    clean = parse_clean(arrow(*lines))
    assert clean is not None
    one_by_one = [parse_line(row) for row in lines]
    assert [LETTERS[label] for label in clean[0]] == [parsed.label for parsed in one_by_one]
    assert [row.tobytes() for row in clean[1]] == [parsed.pixels for parsed in one_by_one]


def test_parsing_no_lines_at_once_returns_none() -> None:
    assert parse_clean(arrow()) is None
