"""What is said about the hands that were found."""

from preprocessing.hand_notes import hand_notes


def counts(searched: int, found: int) -> dict[str, int]:
    return {"searched": searched, "found": found}


def test_each_source_has_a_line_and_pictures_of_nothing_are_not_counted() -> None:
    hands = {"one": {"A": counts(10, 10), "Nothing": counts(5, 0)}, "two": {"A": counts(20, 19)}}
    assert hand_notes(hands) == [
        "one: a hand was found in 10 of 10 photographs",
        "two: a hand was found in 19 of 20 photographs; of the others the center was cropped",
    ]


def test_classes_whose_hands_are_often_not_found_are_named() -> None:
    hands = {"one": {"A": counts(100, 91), "B": counts(10, 0), "M": counts(10, 7)}}
    [note] = hand_notes(hands)
    assert note.endswith("; often not found for B (10 of 10), M (3 of 10)")


def test_a_source_without_any_hand_is_named() -> None:
    [note] = hand_notes({"one": {"A": counts(10, 0), "B": counts(3, 0)}})
    assert note.startswith("one: no hand was found in any of 13 photographs")


def test_a_source_that_was_not_searched_or_has_only_nothing_has_no_line() -> None:
    assert hand_notes({}) == []
    assert hand_notes({"one": {"Nothing": counts(5, 1)}}) == []
