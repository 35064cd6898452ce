"""Settings: read strictly, and a wrong one says what is expected."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from services.kit.settings import REQUIRED, CommonSettings, SettingError, load, load_or_exit, setting


@dataclass(frozen=True, kw_only=True)
class Settings:
    """One field of every kind."""

    name: str = setting(REQUIRED, "Who it is.")
    tries: int = setting(3, "How often.", minimum=1, maximum=9)
    wait_s: float = setting(0.5, "Seconds between tries.", minimum=0)
    loud: bool = setting(False, "Whether it is.")
    folder: Path | None = setting(None, "Where, if anywhere.")
    hosts: list[str] = setting([], "Who else.")
    level: str = setting("low", "How much.", choices=("low", "high"))
    password: str | None = setting(None, "The word.", secret=True)
    pin: int = setting(0, "The number.", secret=True)


def test_defaults_stand_where_nothing_or_emptiness_is_set() -> None:
    settings = load(Settings, {"CATRACA_NAME": "ana", "CATRACA_TRIES": "", "CATRACA_FOLDER": "  "})
    assert (settings.name, settings.tries, settings.folder, settings.hosts) == ("ana", 3, None, [])


def test_every_kind_is_parsed() -> None:
    settings = load(
        Settings,
        {
            "CATRACA_NAME": " ana ",
            "CATRACA_TRIES": "9",
            "CATRACA_WAIT_S": "1.25",
            "CATRACA_LOUD": "Yes",
            "CATRACA_FOLDER": "/srv/data",
            "CATRACA_HOSTS": "a:1, b:2,",
            "CATRACA_LEVEL": "high",
            "CATRACA_PASSWORD": "s3cret",
        },
    )
    assert settings == Settings(
        name="ana",
        tries=9,
        wait_s=1.25,
        loud=True,
        folder=Path("/srv/data"),
        hosts=["a:1", "b:2"],
        level="high",
        password="s3cret",
    )


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("CATRACA_NAME", "", "CATRACA_NAME is not set; expected text (Who it is.)"),
        (
            "CATRACA_TRIES",
            "some",
            "CATRACA_TRIES is 'some'; expected a whole number from 1 to 9 (How often.)",
        ),
        ("CATRACA_TRIES", "0", "CATRACA_TRIES is '0'; expected a whole number from 1 to 9 (How often.)"),
        ("CATRACA_TRIES", "10", "CATRACA_TRIES is '10'; expected a whole number from 1 to 9 (How often.)"),
        ("CATRACA_WAIT_S", "nan", "CATRACA_WAIT_S is 'nan'; expected a number of at least 0"),
        ("CATRACA_WAIT_S", "-0.1", "CATRACA_WAIT_S is '-0.1'; expected a number of at least 0"),
        ("CATRACA_LOUD", "maybe", "CATRACA_LOUD is 'maybe'; expected true or false (Whether it is.)"),
        ("CATRACA_LEVEL", "mid", "CATRACA_LEVEL is 'mid'; expected one of low, high (How much.)"),
    ],
)
def test_a_wrong_setting_names_itself_and_what_is_expected(variable: str, value: str, expected: str) -> None:
    with pytest.raises(SettingError) as caught:
        load(Settings, {"CATRACA_NAME": "ana"} | {variable: value})
    assert str(caught.value).startswith(expected)


def test_a_secret_is_in_no_error_and_no_repr() -> None:
    with pytest.raises(SettingError) as caught:
        load(Settings, {"CATRACA_NAME": "ana", "CATRACA_PIN": "hunter2"})
    assert "hunter2" not in str(caught.value)
    assert "CATRACA_PIN" in str(caught.value)
    assert "s3cret" not in repr(load(Settings, {"CATRACA_NAME": "ana", "CATRACA_PASSWORD": "s3cret"}))


def test_a_wrong_setting_ends_the_process_with_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        load_or_exit(Settings, {})
    assert caught.value.code == 2
    assert capsys.readouterr().err == "CATRACA_NAME is not set; expected text (Who it is.)\n"


def test_every_common_setting_is_documented() -> None:
    for field in CommonSettings.__dataclass_fields__.values():
        assert field.metadata["doc"].endswith("."), field.name


def test_a_secret_may_stand_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("s3cret\n")

    assert load(Settings, {"CATRACA_NAME": "ana", "CATRACA_PASSWORD_FILE": str(file)}).password == "s3cret"
    # What is no secret has no file.
    assert load(Settings, {"CATRACA_NAME": "ana", "CATRACA_LEVEL_FILE": str(file)}).level != "s3cret"


@pytest.mark.parametrize(
    ("content", "beside", "sentence"),
    [
        (
            None,
            {},
            "CATRACA_PIN_FILE is '{file}' (No such file or directory); expected a file with a whole number",
        ),
        (b"", {}, "CATRACA_PIN_FILE is '{file}', which is empty; expected"),
        (b"\xff", {}, "CATRACA_PIN_FILE is '{file}', whose content is no text; expected"),
        (b"hunter2", {}, "CATRACA_PIN is set to something else; expected a whole number"),
        (b"7", {"CATRACA_PIN": "8"}, "CATRACA_PIN_FILE is '{file}'; expected not set, as CATRACA_PIN is"),
    ],
)
def test_a_secret_s_file_that_cannot_be_used_is_named(
    tmp_path: Path, content: bytes | None, beside: dict[str, str], sentence: str
) -> None:
    file = tmp_path / "pin"
    if content is not None:
        file.write_bytes(content)

    with pytest.raises(SettingError) as caught:
        load(Settings, {"CATRACA_NAME": "ana", "CATRACA_PIN_FILE": str(file)} | beside)

    assert str(caught.value).startswith(sentence.format(file=file))
    assert "hunter2" not in str(caught.value)
