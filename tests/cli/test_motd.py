"""Templates of the message of the day: names, sizes, and what other nodes' files have in them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.info import MAX_MOTD
from toxmesh.motd_template import (
    MAX_SIZE,
    MAX_TEMPLATE,
    NAMES,
    duration,
    fill,
    fitting,
    known,
    names_in,
    problem,
)

TOX_NODE = (  # the example of tox-node's README
    "{{start_date}} {{uptime}} Tcp: incoming {{tcp_packets_in}}, outgoing {{tcp_packets_out}}, "
    "Udp: incoming {{udp_packets_in}}, outgoing {{udp_packets_out}}"
)


def test_the_example_of_tox_node_is_good_and_has_every_name() -> None:
    assert MAX_SIZE == MAX_MOTD - 1
    assert problem(TOX_NODE) == ""
    assert names_in(TOX_NODE) == list(NAMES)
    assert fill("a {{ uptime }} b", {"uptime": "now"}) == "a now b"


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("", ""),
        ("{ {uptime} }", ""),
        ("x" * 255, ""),
        ("x" * 256, "must have at most 255 bytes, not 256"),
        ("ä" * 128, "must have at most 255 bytes, not 256"),
        ("{{uptime}}" * 9, "must have at most 255 bytes when it is filled in, not 261"),
        ("{{load}}", "has no value for {{load}}; names are start_date, "),
        ("{{}}", "has no value for {{}}"),
        ("a\x07", "must not contain control characters"),
        ("a\nb", ""),
    ],
)
def test_what_is_wrong_is_the_end_of_a_sentence(template: str, said: str) -> None:
    assert problem(template).startswith(said)
    assert bool(problem(template)) == bool(said)


@given(
    st.lists(
        st.one_of(
            st.text(st.characters(min_codepoint=32, codec="utf-8"), max_size=300),
            st.sampled_from(["{{uptime}}", "{{ start_date }}", "{{load}}", "{{", "}}"]),
        ),
        max_size=8,
    ).map("".join)
)
def test_whatever_another_node_had_becomes_a_good_template(text: str) -> None:
    made = fitting(known(text))
    assert problem(made) == ""
    assert len(fill(made, NAMES).encode()) <= MAX_SIZE


def test_a_text_without_end_is_cut_at_once() -> None:
    assert fitting("é" * 1_000_000) == "é" * 127
    assert len(fitting("{{uptime}}" * 100_000).encode()) <= MAX_TEMPLATE


def test_times_are_written_as_tox_node_writes_them() -> None:
    assert duration(3 * 86400 + 4 * 3600 + 5 * 60 + 59) == "3 days 4 hours 5 minutes"
    assert len(duration(1234 * 86400 + 86399)) <= len(NAMES["uptime"])
