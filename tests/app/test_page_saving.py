"""The whole page in a browser's double: an answer that is awaited, and what is saved of it."""

from typing import Any

from app.web import STATIC
from tests.helpers.node_scripts import node, with_node
from tests.helpers.paths import ROOT

DOUBLE = (ROOT / "tests/helpers/browser_double.mjs").as_uri()
FULL, DISC = [0, 12], [3, 2, 7]  # runs of masks of 4 x 3 pixels


def page(steps: str, before: str = "") -> Any:
    """What steps find on the page: keys are pressed, the double's server answers, and was prepared `before`."""
    names = "asksBeforeLeaving, isDisabled, predicted, press, reply, saves, server, settle, status"
    return node(f"""
        import {{ {names} }} from "{DOUBLE}";
        const found = [];
        {before}
        await import("{(STATIC / "main.js").as_uri()}");
        {steps}
        console.log(JSON.stringify(found));
    """)


@with_node
def test_an_answer_that_is_awaited_is_not_saved_yet_and_saving_waits_for_it():
    found = page(f"""
        const note = () => found.push([isDisabled("save"), asksBeforeLeaving(), saves()]);
        note();
        press("n");
        await settle();
        note();
        press("s");
        await settle();
        note();
        server.answer(predicted({DISC}));
        await settle();
        note();
        press("s");
        await settle();
        note();
    """)
    nothing, awaited, saved = [True, False, []], [False, True, []], [True, False, [DISC]]
    assert found == [nothing, awaited, awaited, saved, saved]


@with_node
def test_of_two_prompts_that_are_awaited_the_newest_is_saved():
    found = page(f"""
        press("n");
        await settle();
        const first = server.answer;
        press("n");
        press("s");
        await settle();
        first(reply({{ detail: "A newer prompt came." }}, 409));
        await settle();
        found.push(saves(), status());
        server.answer(predicted({FULL}));
        await settle();
        found.push(saves(), status());
    """)
    assert found == [[], "…", [FULL], "saved: f.png"]


@with_node
def test_the_page_tells_how_far_an_answer_is_and_escape_cancels_it():
    found = page(f"""
        press("n");
        await settle();
        await server.tick();
        found.push(status());
        press("Escape");
        await settle();
        found.push(server.sent.at(-1).slice(0, 2));
        server.answer(reply({{ detail: "The prompt was cancelled." }}, 409));
        await settle();
        await server.tick();
        found.push(status(), isDisabled("save"), asksBeforeLeaving());
        press("n");
        await settle();
        server.answer(predicted({DISC}));
        await settle();
        found.push(isDisabled("save"));
        press("n");
        await settle();
        press("z");
        await settle();
        found.push(server.sent.at(-1).slice(0, 2));
    """)
    assert found[0] == "… tiles 8 / 36 (Escape cancels)"
    assert found[1] == ["DELETE", "/api/answers/1"]
    assert found[2:6] == ["The prompt was cancelled.", True, False, False]
    assert found[6] == ["DELETE", "/api/answers/3"]


@with_node
def test_a_mark_is_of_the_photograph_that_was_shown_when_it_was_given():
    """The user goes on to the next photograph and marks it again before the first answer has come."""
    found = page("""
        server.holds("PUT");
        press("a");
        await settle();
        found.push(isDisabled("absent"), isDisabled("structure_prompt"));
        press("ArrowRight");
        press("a");
        await settle();
        server.release();
        await settle();
        found.push(server.sent.filter(([method]) => method === "PUT").map(([, path]) => path), status());
    """)
    assert found == [True, True, ["/api/photographs/0/absent/vessel"], "other"]


@with_node
def test_a_saved_mask_that_cannot_be_read_is_not_drawn_over():
    before = """
        server.photographs[1].done.push("vessel");
        server.fails("/api/photographs/1/masks/vessel", "vessel.png is not a PNG");
    """
    found = page(
        """
        press("ArrowRight");
        await settle();
        found.push(status(), isDisabled("structure_prompt"), isDisabled("remove"));
        """,
        before,
    )
    assert found == ["vessel.png is not a PNG", True, True]
