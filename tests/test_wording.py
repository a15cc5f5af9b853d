from sweeper.wording import counted


def test_one_thing_is_one_thing() -> None:
    assert [counted(number, "point") for number in (0, 1, 2)] == ["0 points", "1 point", "2 points"]
