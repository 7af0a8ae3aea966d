"""Values as transcript 05 of Supabase's own server shows them."""

from __future__ import annotations

import json

import pytest

from rtwidgets.local.render import Types

TYPES = Types()
TYPES.load(
    [
        (16, "bool", 0, 0, ","),
        (17, "bytea", 0, 0, ","),
        (20, "int8", 0, 0, ","),
        (25, "text", 0, 0, ","),
        (114, "json", 0, 0, ","),
        (600, "point", 0, 0, ","),
        (603, "box", 0, 0, ";"),
        (701, "float8", 0, 0, ","),
        (1007, "_int8", 20, 0, ","),
        (1009, "_text", 25, 0, ","),
        (1020, "_box", 603, 0, ";"),
        (1114, "timestamp", 0, 0, ","),
        (1184, "timestamptz", 0, 0, ","),
        (1700, "numeric", 0, 0, ","),
        (9000, "positive", 0, 20, ","),
    ]
)


@pytest.mark.parametrize(
    ("oid", "text", "rendered"),
    [
        (16, "t", "true"),
        (16, "f", "false"),
        (17, r"\xdeadbeef", '"deadbeef"'),
        (20, "-9223372036854775808", "-9223372036854775808"),
        (1700, "123456789012345678.123456789", "123456789012345678.123456789"),
        (1700, "1.500", "1.500"),
        (1700, "NaN", "null"),
        (701, "-Infinity", "null"),
        (701, "1e+20", "1e+20"),
        (25, 'héllo "q" \\ \n nl', '"héllo \\"q\\" \\\\ \\n nl"'),
        (114, '{"a": 2}', '{"a": 2}'),
        (600, "(1,2)", '"(1,2)"'),
        (1114, "2026-11-23 10:00:00.123456", '"2026-11-23T10:00:00.123456"'),
        (1114, "-infinity", '"-infinity"'),
        (1184, "2026-11-23 08:00:00.123456+00", '"2026-11-23T08:00:00.123456+00:00"'),
        (1184, "infinity", '"infinity"'),
        (1184, "0044-03-15 00:00:00+00 BC", '"0044-03-15T00:00:00+00:00 BC"'),
        (1007, "{1,2,NULL}", "[1, 2, null]"),
        (1007, "{}", "[]"),
        (1007, "{{1,2},{3,NULL}}", "[[1, 2], [3, null]]"),
        (1007, "[0:1]={5,6}", "[5, 6]"),
        (1009, '{a,"b,c",NULL,"NULL","q\\"\\\\"}', '["a", "b,c", null, "NULL", "q\\"\\\\"]'),
        (1020, "{(2,2),(1,1);(4,4),(3,3)}", '["(2,2),(1,1)", "(4,4),(3,3)"]'),
        (9000, "7", "7"),
        (4242, "of a type nobody knows", '"of a type nobody knows"'),
    ],
)
def test_a_value_is_rendered_as_supabase_renders_it(oid: int, text: str, rendered: str) -> None:
    out = TYPES.converter(oid)(text.encode()).decode()
    assert out == rendered
    json.loads(out)
