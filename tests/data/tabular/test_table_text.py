"""The text of a table: its encoding, Excel's separator line, and a first line that names columns or
does not.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from dltrain.config.check import raise_all
from dltrain.config.compose import compose
from dltrain.data.io.text_encoding import check_encoding, decode
from dltrain.data.tabular.files.header import looks_like_data, stated_separator
from dltrain.data.tabular.tabular import Tabular
from dltrain.data.tabular.timeseries import TimeSeries
from dltrain.errors import ConfigError, InputError
from dltrain.experiment.instantiate import instantiate

pytest.importorskip("pyarrow")
CITIES = ("Köln", "Düsseldorf", "São Paulo")


def rows(count: int = 30, separator: str = ",") -> list[str]:
    return [
        separator.join([f"{i / 2}", CITIES[i % 3], "jané"[: 2 + i % 2 * 2]]) for i in range(count)
    ]


def written(lines: list[str], encoding: str = "utf-8", name: str = "table.csv") -> str:
    Path(name).write_bytes(("\r\n".join(lines) + "\r\n").encode(encoding))
    return name


@pytest.mark.parametrize(
    ("encoding", "key"),
    [
        ("latin-1", "latin-1"),
        ("cp1252", "cp1252"),
        ("utf-8-sig", None),
        ("utf-16", None),
        ("utf-32", None),
        ("utf-16", "utf-16"),
        ("utf-16-le", "utf-16"),
        ("utf-16-be", "utf-16-be"),
        ("cp850", "cp850"),
    ],
)
def test_a_table_in_another_encoding_is_read_as_it_is_in_utf8(
    encoding: str, key: str | None
) -> None:
    plain = Tabular(written(["x,stadt,y", *rows()]), "y")
    other = Tabular(written(["x,stadt,y", *rows()], encoding, "other.csv"), "y", encoding=key)
    assert other.spec == plain.spec
    assert other.encoder.categories[0].texts == tuple(sorted(CITIES))
    assert [s.problem for s in other.encode([Path("other.csv")])] == [""] * 30


@pytest.mark.parametrize(
    ("text", "encoding", "line", "guess"),
    [
        (
            "x,y\n1,a\n2,grün\n",
            "latin-1",
            3,
            "cp1252 (or latin-1) may be right, which reads 'grün'",
        ),
        ("x,y\n“a”,€\n", "cp1252", 2, "cp1252"),
        ("имя,город\nИван,Москва\nПётр,Казань\n", "cp1251", 1, "cp1251"),
        ("имя,город\nИван,Москва\nПётр,Казань\n", "koi8-r", 1, "koi8-r"),
        (
            "姓名,城市\n张三,北京\n李四,上海\n",
            "gb18030",
            1,
            "gb18030 may be right, which reads '姓名'",
        ),
        ("名前,都市\nたろう,とうきょう\n花子さん,おおさか\n", "shift_jis", 1, "shift_jis"),
        ("名前,都市\n太郎,東京\n花子,大阪\n", "shift_jis", 1, "shift_jis"),
        ("이름,도시\n김철수,서울\n이영희,부산\n", "euc_kr", 1, "euc_kr"),
        ("姓名,城市\n張三,台北\n李四,高雄\n陳小明,新竹\n", "big5", 1, "big5"),
        ("x,y\n1,a\n", "utf-16-le", 1, "utf-16-le"),
        ("x,y\n1,a\n", "utf-16-be", 1, "utf-16-be"),
        ("x,y\n1,grün\n", "cp850", 2, "cp850"),
    ],
)
def test_bytes_that_are_not_utf8_are_refused_with_line_byte_and_a_guess(
    text: str, encoding: str, line: int, guess: str
) -> None:
    content = text.encode(encoding)
    with pytest.raises(InputError, match=f"^f.csv:{line}: the text is not UTF-8: byte ") as raised:
        decode(content, "f.csv")
    assert f"dataset.encoding={guess}" in str(raised.value)
    assert decode(content, "f.csv", encoding) == text


@pytest.mark.parametrize(
    ("text", "encoding", "named", "larger"),
    [
        ("名前,番号\nたろう,①\n", "cp932", "shift_jis", "cp932"),
        ("이름,도시\n똠방각하,서울\n", "cp949", "euc_kr", "cp949"),
        ("姓名,城市\n镕基,北京\n", "gb18030", "gb2312", "gb18030"),
    ],
)
def test_a_larger_encoding_is_named_where_the_usual_one_lacks_a_character(
    text: str, encoding: str, named: str, larger: str
) -> None:
    for given in (None, named):
        with pytest.raises(InputError) as raised:
            decode(text.encode(encoding), "f.csv", given)
        assert f"dataset.encoding={larger} may be right" in str(raised.value)


def test_no_text_is_read_wrongly_without_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    """UTF-8 under another name, a mark that says another encoding, latin-1 that is cp1252, UTF-16
    without a mark.
    """
    caplog.set_level(logging.WARNING, "dltrain")
    text = "x,grün\n"
    assert decode(text.encode(), "f.csv", "latin-1") == text
    assert decode(text.encode(), "f.csv", "utf-16-le") == text
    assert [
        m for m in caplog.messages if "is UTF-8 text and is read as such" in m
    ] == caplog.messages
    assert len(caplog.messages) == 2
    assert decode(text.encode("utf-16"), "f.csv", "latin-1") == text
    decode("a,“b”\n".encode("cp1252"), "f.csv", "latin-1")
    assert (
        "f.csv:1: byte 0x93 is a control character in latin-1; dataset.encoding=cp1252 reads '“'"
        in caplog.text
    )
    decode(text.encode(), "f.csv", "gb18030")
    assert "reads '眉' where UTF-8 would read 'ü'" in caplog.text
    with pytest.raises(InputError, match="no byte order mark"):
        decode("北京".encode("utf-16-le"), "f.csv", "utf-16")
    with pytest.raises(
        InputError,
        match=r"f.csv:2: there is a NUL byte \(byte 9 of the file\): this is not a text file",
    ):
        decode(b"x,ylong\n\0", "f.csv")
    with pytest.raises(InputError, match=r"f.csv:2: the text is not ASCII.*cp1252"):
        decode("x\nü\n".encode("latin-1"), "f.csv", "ascii")


def test_a_file_that_is_utf8_except_for_a_line_is_to_be_corrected(
    caplog: pytest.LogCaptureFixture,
) -> None:
    content = "\n".join(["x,stadt", *(f"{i},Köln" for i in range(20))]).encode() + b"\n20,K\xf6ln\n"
    with pytest.raises(
        InputError,
        match=r"f.csv:22: .* 0xf6 \(cp1252 reads 'Köln'\); the rest is UTF-8: correct the line",
    ):
        decode(content, "f.csv")
    decode(content, "f.csv", "cp1252")
    assert (
        "f.csv:2: most letters are written as in UTF-8, and dataset.encoding=cp1252 reads them "
        "wrongly" in caplog.text
    )


@pytest.mark.parametrize(
    ("start", "what"),
    [
        (b"PK\x03\x04\x14\x00", "Excel workbook"),
        (b"\x1f\x8b\x08\x00", "gzip"),
        (b"PAR1\x15", "Parquet"),
    ],
)
def test_a_file_of_another_format_is_recognized(start: bytes, what: str) -> None:
    Path("table.csv").write_bytes(start + bytes(range(256)))
    with pytest.raises(InputError, match=f"table.csv: this is .*{what}.*not text"):
        _ = Tabular("table.csv", "y").spec


@pytest.mark.parametrize("name", ["rot13", "base64", "nope", "a\0b"])
def test_a_name_that_is_not_a_text_encoding_is_refused(name: str) -> None:
    check_encoding("latin-1")
    with pytest.raises(ValueError, match="unknown encoding"):
        check_encoding(name)


# Excel's separator line


@pytest.mark.parametrize("line", ["sep=;", '"sep=;"', "SEP=;", "sep=;;;", "sep=;\r\n"])
def test_the_separator_line_is_recognized_in_every_spelling(line: str) -> None:
    assert stated_separator(line) == ";"
    assert stated_separator("sep;x") is None
    assert stated_separator("sep=ab") is None


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("separator", [";", "\t", ","])
def test_a_stated_separator_is_used(separator: str, encoding: str) -> None:
    """The line sep=; above the header of an Excel csv counts as a line, in every encoding."""
    lines = [f"sep={separator}", separator.join(["x", "city", "y"]), *rows(separator=separator)]
    data = Tabular(written(lines, encoding), "y")
    assert data.spec.feature_names[0] == "x"
    assert data.spec.train_samples + data.spec.test_samples == 30
    assert next(data.encode([Path("table.csv")])).name == "table.csv:3"
    with pytest.raises(InputError, match=r"table.csv:5: 2 fields; the header has 3"):
        _ = Tabular(written([*lines[:4], separator.join("ab")], encoding), "y").spec


# names of columns


@pytest.mark.parametrize("target", ["1", 1])
def test_names_of_columns_may_be_numbers(target: Any) -> None:
    """A column may be called 1."""
    path = written(["0,1,no", *(f"{i / 10},{i * i / 7},{'ud'[i % 2]}" for i in range(40))])
    data = Tabular(path, target, ignore=(0,))
    assert data.spec.target_names == ("1",)
    assert data.spec.feature_names == ("no=other", "no=d", "no=u")


def data_of(*overrides: str) -> Any:
    """The data set that a command line describes, checked as `dltrain check` does first."""
    composed = compose(list(overrides))
    raise_all(composed)
    return instantiate(composed.config["dataset"], "dataset", {"root": Path("data"), "seed": 0}, [])


def test_keys_that_name_columns_take_numbers() -> None:
    written(["2019,2020,2021", *(f"{i % 3},{i * 1.5},{i * i}" for i in range(60))])
    table = (
        "dataset=tabular",
        "dataset.path=table.csv",
        "dataset.kind=regression",
        "dataset.categorical=[2019]",
    )
    assert data_of(*table, "dataset.target=2021").spec.target_names == ("2021",)
    assert data_of(*table, "dataset.target=[2021,2020]").spec.target_names == ("2021", "2020")
    data = data_of(*table, "dataset.target=2020", "dataset.ignore=[2021]")
    assert data.spec.feature_names == ("2019=other", "2019=0", "2019=1", "2019=2")
    series = ("dataset=timeseries", "dataset.path=table.csv", "dataset.window=3")
    assert len(data_of(*series, "dataset.column=2020").stored.values) == 60
    with pytest.raises(ConfigError, match="column '2022'"):
        _ = data_of(*table, "dataset.target=2022").spec
    with pytest.raises(ConfigError, match="expected text or a list"):
        data_of(*table, "dataset.target={a: 1}")


@pytest.mark.parametrize(("name", "quoted"), [("1.50", "1.50"), ("true", "True")])
def test_a_name_in_quotes_stays_as_it_is_typed(name: str, quoted: str) -> None:
    written(["1.50,True,y", *(f"{i % 3},{i % 5},{'ud'[i % 2]}" for i in range(40))])
    table = ("dataset=tabular", "dataset.path=table.csv")
    with pytest.raises(ConfigError) as raised:
        _ = data_of(*table, f"dataset.target={name}").spec
    assert (
        f"""did you mean '{quoted}'? In quotes a name stays as it is typed: "'{quoted}'"."""
        in str(raised.value)
    )
    assert data_of(*table, f"dataset.target='{quoted}'").spec.class_names


# a first line that is data

HEADERS = {
    "names": (["a", "b", "y"], False),
    "a row": (["5.1", "3.5", "u"], True),
    "a row of numbers": (["5.1", "3.5", "0.2"], True),
    "places": (["0", "1", "2"], False),
    "places from 1": (["1", "2", "3"], False),
    "years": (["1990", "1991", "1992"], False),
    "numbers that look like a row": (["4", "5", "6"], True),
    "numbers of another size": (["20", "25", "70"], False),
    "a name among numbers": (["id", "7.5", "y"], False),
    "a number among names": (["a", "1", "y"], False),
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_first_line_is_data_or_names(name: str) -> None:
    header, data = HEADERS[name]
    body = [
        [f"{i % 11}", f"{i % 13}", f"{i % 9}" if header[2] != "u" else "ud"[i % 2]]
        for i in range(40)
    ]
    assert looks_like_data(header, body) is data
    assert not looks_like_data(header, [])


def test_a_headerless_table_loses_no_row(dltrain) -> None:
    """Without a header the first row would be its names, also where the target's name is a number
    that stands there.
    """
    lines = [f"{i % 7},{i / 4},{i % 2}" for i in range(2, 42)]
    written(lines)
    for target in ("2", "0.5"):
        with pytest.raises(
            InputError, match=r"table.csv:1: the first line looks like data.*dataset.header=false"
        ):
            _ = Tabular("table.csv", target).spec
    data = Tabular("table.csv", "2", header=False)
    assert data.spec.train_samples + data.spec.test_samples == 40
    assert data.spec.feature_names == ("0", "1")
    assert (
        Tabular("table.csv", "0.5", header=True, test_fraction=0, val_fraction=0).spec.train_samples
        == 39
    )
    settings = ("dataset.path=table.csv", "dataset.target=2", "callbacks=quiet", "trainer.epochs=1")
    outcome = dltrain("dataset=tabular", *settings, "dataset.header=false", "--json")
    assert outcome.code == 0, outcome.err
    outcome = dltrain("predict", outcome.json["run"], "table.csv", "--json")
    assert outcome.json["predicted"] == 40
    assert outcome.json["rows"][0]["input"] == "table.csv:1"


def test_a_series_without_a_header_loses_no_value() -> None:
    Path("series.csv").write_text("\n".join(f"{i * 1.5}" for i in range(1, 101)) + "\n")
    with pytest.raises(InputError, match=r"series.csv:1: the first line looks like data"):
        _ = TimeSeries("series.csv", window=5).spec
    assert len(TimeSeries("series.csv", window=5, header=False).stored.values) == 100


def test_runs_of_older_versions_have_no_encoding(dltrain) -> None:
    """A saved configuration without the newer keys is read as it was."""
    written(["x,city,y", *rows()])
    settings = ("dataset.path=table.csv", "dataset.target=y", "callbacks=quiet", "trainer.steps=1")
    run = Path(dltrain("dataset=tabular", *settings, "--json").json["run"])
    text = (run / "config.yaml").read_text().splitlines(keepends=True)
    (run / "config.yaml").write_text(
        "".join(line for line in text if line.split(":")[0].strip() not in ("encoding", "header"))
    )
    outcome = dltrain("evaluate", str(run), "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.json["metrics"] == {
        k: v
        for k, v in json.loads((run / "results.json").read_text())["metrics"].items()
        if k.startswith("test/")
    }


def test_an_unknown_encoding_is_a_configuration_error(dltrain) -> None:
    written(["x,city,y", *rows()])
    outcome = dltrain(
        "check",
        "dataset=tabular",
        "dataset.path=table.csv",
        "dataset.target=y",
        "dataset.encoding=nope",
    )
    assert (outcome.code, "dataset.encoding=nope: unknown encoding" in outcome.err) == (2, True)


@pytest.mark.parametrize(
    "title",
    [["Report of 2020"], ["Report of 2020,,", ""], ["# made by hand"], ["@relation a", "@data"]],
)
def test_a_title_above_the_names_is_refused(title: list[str]) -> None:
    Path("table.csv").write_text("\n".join([*title, "x,c,y", *rows()]) + "\n")
    with pytest.raises(
        InputError, match=r"table.csv:1: the first line is .* alone, .* cut off what stands above"
    ):
        _ = Tabular("table.csv", "y").spec


@pytest.mark.parametrize("values", [["1,5", "2,5"], ["1.234,5", "7"]])
def test_a_single_column_has_no_title(values: list[str]) -> None:
    Path("series.csv").write_text("\n".join(["load", *values * 100]) + "\n")
    assert len(TimeSeries("series.csv").stored.values) == 200


def test_a_header_that_lacks_the_name_of_the_row_names_is_refused() -> None:
    lines = [f'"{i}",{line}' for i, line in enumerate(rows())]
    Path("table.csv").write_text("\n".join(["x,c,y", *lines]) + "\n")
    with pytest.raises(
        InputError,
        match=r"table.csv:2: 4 fields; the header has 3, and so have all lines below: give",
    ):
        _ = Tabular("table.csv", "y").spec


def test_a_name_with_spaces_around_it_is_proposed() -> None:
    Path("table.csv").write_text("\n".join(["x , c , y ", *rows()]) + "\n")
    with pytest.raises(ConfigError, match="did you mean ' y '"):
        _ = Tabular("table.csv", "y").spec
    assert Tabular("table.csv", " y ").spec.class_names == ("ja", "jané")
