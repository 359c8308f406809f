import pytest

from preprocessing.labels import class_name


@pytest.mark.parametrize(
    ("name", "form"),
    [("a", "A"), ("A", "A"), ("z ", "Z"), ("del", "Del"), ("Delete", "Del"), ("SPACE", "Space"), ("nothing", "Nothing"),
     ("Blank", "Nothing"), ("background", "Nothing"), ("7", "7"), ("AA", None), ("hello", None), ("", None)],
)  # fmt: skip
def test_names_are_converted_to_the_canonical_form(name: str, form: str | None) -> None:
    assert class_name(name) == form


def test_other_names_have_to_be_allowed_and_are_not_changed() -> None:
    assert class_name("hello", ["hello"]) == "hello"
    assert class_name("Hello", ["hello"]) is None
