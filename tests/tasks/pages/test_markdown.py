"""Text from outside is shown on Prefect's pages as it was written, and never rendered as Markdown."""

from __future__ import annotations

import html

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from tasks.pages.markdown import code, console, facts_table, text

PAGE = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
HOSTILE = (
    "a | b `c` **d** _e_ ~~f~~ [g](http://h.example) ![i](http://h.example/i.png) <img src=x onerror=alert(1)> "
    "&lt; &#124; </p> <!-- j --> [k]: l <http://m.example> \\ \\\\* snake_case_name _ "
)


@given(st.text(alphabet="ab12 \\`*_[](){}<>~&|!#;:/-+.=\"'\n\t\u00e9", max_size=60))
@example(HOSTILE)
def test_a_text_is_shown_as_it_was_written(written: str) -> None:
    """Rendered as CommonMark with HTML, it is one paragraph that says the same, on one line."""
    said = " ".join(written.split())

    shown = PAGE.render(f"Prompt: {text(written)}")

    assert shown == f"<p>{html.escape(f'Prompt: {said}', quote=False).replace(chr(34), '&quot;').strip()}</p>\n"


@given(st.text(alphabet="ab \\`*_[]()<>~&|!\n", max_size=40))
@example(HOSTILE)
def test_a_cell_stays_a_cell(written: str) -> None:
    """A `|` within a text opens no other column, and a line break no other row."""
    shown = PAGE.render(facts_table([("Prompt", text(f"x{written}x"))]))

    assert shown.count("<tr>") == 2 and shown.count("<td>") == 2
    assert "<img" not in shown and "<em>" not in shown and "<a " not in shown


@pytest.mark.parametrize("name", ["a`b", "```", "x\n\n# y", "`<b>`"])
def test_an_id_stays_within_its_code(name: str) -> None:
    """Whatever ids a service gives its requests."""
    assert PAGE.render(f"id {code(name)} end").count("<code>") == 1
    assert "<h1>" not in PAGE.render(f"id {code(name)} end")
    assert PAGE.render(console(f"fetch {name}")).count("<pre>") == 1
    assert "<h1>" not in PAGE.render(console(f"fetch {name}"))


def test_a_long_text_is_cut_and_a_secret_is_redacted() -> None:
    """A page shows neither in full."""
    assert len(text("a" * 5000)) == 600
    assert text("a" * 50, longest=10) == "aaaaaaaaa…"
    assert "0123456789abcdef" not in text("see https://h.example/i.png?X-Amz-Signature=0123456789abcdef")
    assert "0123456789abcdef" not in code("https://h.example/i.png?X-Amz-Signature=0123456789abcdef")
