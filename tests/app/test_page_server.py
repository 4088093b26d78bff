"""The page's requests to the server, by Node: what it asks before a change that is refused at first."""

import json

import pytest

from app.web import STATIC
from tests.helpers.node_scripts import node, with_node

SCRIPT = (STATIC / "server.js").as_uri()
SAVE = 'writeMask(0, "vessel", { size: [1, 2], counts: [0, 2] })'


def changed(replies: list[tuple[int, str, str | None]], answers: list[bool], *, change: str = SAVE) -> dict:
    """What the page asks and sends where the server's replies are (status, detail, ETag), and what it makes of them."""
    code = f"""
        const replies = {json.dumps(replies)}, answers = {json.dumps(answers)}, asked = [], sent = [];
        const project = {{ photographs: [{{ absent: [] }}, {{ absent: ["vessel"] }}] }};
        globalThis.confirm = (question) => {{ asked.push(question); return answers.shift(); }};
        globalThis.fetch = async (path, {{ method, headers, body }}) => {{
          const [status, detail, ETag] = replies.shift(), seen = headers["If-Match"] ?? null;
          const confirmed = Boolean(body && JSON.parse(body).confirmed);
          sent.push([method, seen, headers["If-None-Match"] ?? null, confirmed]);
          const content = status === 204 ? null : JSON.stringify({{ detail, file: "f.png", ...project }});
          return new Response(content, {{ status, headers: ETag ? {{ ETag }} : {{}} }});
        }};
        const {{ changeAbsent, readProject, removeMask, writeMask }} = await import("{SCRIPT}");
        const found = await {change}.catch((error) => `error: ${{error.message}}`);
        console.log(JSON.stringify({{ found, asked, sent, unused: replies.length }}));
    """
    return node(code)


OTHER, MUCH = (412, "The mask is another one.", '"b"'), (428, "This takes much. Send it as confirmed.", None)
DONE, REFUSED, BROKEN = (200, "", '"c"'), (412, "It is gone.", None), (500, "The disk is full.", None)


@with_node
@pytest.mark.parametrize("order", [(OTHER, MUCH), (MUCH, OTHER)])
def test_a_save_that_is_refused_for_two_reasons_asks_twice(order):
    told = changed([*order, DONE], [True, True])
    assert told["found"] == "f.png" and told["unused"] == 0
    assert sorted(told["asked"]) == [
        "The mask is another one. Go on all the same?",
        "This takes much. Save it all the same?",
    ]
    assert told["sent"][0] == ["PUT", None, "*", False] and told["sent"][2] == ["PUT", '"b"', None, True]


@with_node
def test_a_version_that_comes_while_the_user_is_asked_is_asked_for_again():
    told = changed([OTHER, (*OTHER[:2], '"d"'), DONE], [True, True])
    assert told["found"] == "f.png"
    assert [seen for _, seen, *_ in told["sent"]] == [None, '"b"', '"d"']
    told = changed([OTHER, REFUSED, DONE], [True, True])
    assert told["sent"][2] == ["PUT", None, "*", False]


@with_node
@pytest.mark.parametrize("replies", [[OTHER], [MUCH], [OTHER, MUCH]])
def test_nothing_is_changed_where_the_user_says_no(replies):
    told = changed([*replies, DONE], [*[True] * (len(replies) - 1), False])
    assert told["found"] is None and told["unused"] == 1


@with_node
def test_other_errors_are_told_and_a_removal_asks_too():
    assert changed([OTHER, BROKEN], [True])["found"] == "error: The disk is full."
    told = changed([OTHER, (204, "", None)], [True], change='removeMask(0, "vessel")')
    assert told["found"] is True and told["sent"][1] == ["DELETE", '"b"', None, False]


@with_node
def test_what_is_known_to_be_absent_has_a_version_too():
    """Of the project, and from each answer."""
    project, absent = (200, "", None), '"absent"'
    change = "readProject().then(() => {which})"
    for which, seen in (('changeAbsent(1, "vessel", false)', absent), (SAVE.replace("(0", "(1"), absent), (SAVE, None)):
        told = changed([project, DONE], [], change=change.format(which=which))
        assert told["sent"][1][1] == seen, which
    twice = 'changeAbsent(0, "vessel", true).then(() => changeAbsent(0, "vessel", false))'
    told = changed([(204, "", absent), (204, "", None)], [], change=twice)
    assert told["found"] is True
    assert told["sent"] == [["PUT", None, "*", False], ["DELETE", absent, None, False]]
