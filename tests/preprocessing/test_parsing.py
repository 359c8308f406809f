import pytest

from preprocessing.parsing import HEADER, PIXELS, ParsedLine, parse_lines


def line(label: object = 0, **pixels: object) -> str:
    values = ["7"] * PIXELS
    for name, value in pixels.items():
        values[int(name.removeprefix("pixel")) - 1] = str(value)
    return ",".join([str(label), *values])


def test_a_line_becomes_its_letter_and_its_pixels_in_order() -> None:
    [parsed] = parse_lines([line(2, pixel1=0, pixel784=255)])
    assert parsed.label == "C"
    assert parsed.pixels == bytes([0, *[7] * 782, 255])
    assert parsed.reason is None


def test_the_header_has_the_label_and_784_pixels() -> None:
    assert HEADER.startswith("label,pixel1,pixel2,")
    assert HEADER.endswith(",pixel784")


@pytest.mark.parametrize(
    ("text", "reason", "detail"),
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
        (line(pixel5="9" * 5000), "pixel out of range", "pixel5"),
        (line(pixel5="-1"), "pixel not an integer", "-1"),
        (line() + ",7", "too many fields", "786"),
        (line().rsplit(",", 1)[0], "too few fields", "784"),
        ("3", "too few fields", "1, 785 expected"),
        ('"' + line(), "not CSV", ""),
    ],
)
def test_a_line_that_cannot_be_used_is_refused_with_what_was_found(text: str, reason: str, detail: str) -> None:
    good, bad, after = parse_lines([line(1), text, line(3)])
    assert (bad.reason, bad.label, bad.pixels) == (reason, None, None)
    assert detail in (bad.detail or "")
    assert (good.label, after.label) == ("B", "D")


@pytest.mark.parametrize("text", [line(" 1 "), line('"1"'), line("01"), line(1, pixel4=" 007")])
def test_quotes_spaces_and_leading_zeros_do_not_change_a_number(text: str) -> None:
    assert parse_lines([text]) == parse_lines([line(1)])


def test_a_line_means_the_same_alone_and_beside_a_faulty_one() -> None:
    lines = [line(label, pixel9=label * 10) for label in range(9)]
    together = parse_lines([*lines, "rubbish"])
    assert together[:-1] == parse_lines(lines)
    assert isinstance(together[-1], ParsedLine)


def test_no_lines_are_no_rows() -> None:
    assert parse_lines([]) == []
