"""Where a request came from: nobody is believed but a trusted proxy, and nothing but what it wrote itself."""

import ipaddress
from ipaddress import ip_network
from unittest.mock import patch

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from werkzeug.datastructures import Headers

from addresses import IPNetwork
from api import peer
from api.peer import LONGEST_TEXT, MOST_HOPS, address_of
from api.request_scope import UNKNOWN_PEER

TRUSTED = (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))
PROXY, CALLER = "10.0.0.1", "203.0.113.9"
XFF, FORWARDED = "X-Forwarded-For", "Forwarded"


def found(*lines: tuple[str, str], remote: str | None = PROXY, trusted: tuple[IPNetwork, ...] = TRUSTED) -> str:
    return address_of(remote, Headers(list(lines)), trusted)


@pytest.mark.parametrize("header", [XFF, FORWARDED, "X-Real-IP", "Remote-Addr", "Client-IP"])
@pytest.mark.parametrize(("remote", "trusted"), [(CALLER, TRUSTED), (CALLER, ()), (PROXY, ())])
def test_who_is_no_trusted_proxy_is_not_believed(header: str, remote: str, trusted: tuple[IPNetwork, ...]) -> None:
    said = (header, "for=10.9.9.9" if header == FORWARDED else "10.9.9.9")
    assert found(said, remote=remote, trusted=trusted) == remote


@pytest.mark.parametrize(
    ("remote", "address"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:DB8::0:1", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
        (PROXY, PROXY),
        ("<local>", UNKNOWN_PEER),
        ("", UNKNOWN_PEER),
        (None, UNKNOWN_PEER),
    ],
)
def test_without_a_header_the_other_end_of_the_socket_asks(remote: str | None, address: str) -> None:
    assert found(remote=remote) == address


@pytest.mark.parametrize("remote", [PROXY, f"::ffff:{PROXY}", "fd00::1"])
@pytest.mark.parametrize(
    ("said", "address"),
    [
        (CALLER, CALLER),
        (f" {CALLER} ", CALLER),
        (f"{CALLER}:4711", CALLER),
        (f"::ffff:{CALLER}", CALLER),
        (f"[::ffff:{CALLER}]:443", CALLER),
        ("2001:db8::1", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("[2001:db8::1]:443", "2001:db8::1"),
        ('"[2001:db8::1]:443"', "2001:db8::1"),
        ("2001:db8::1%<b>eth0</b>", "2001:db8::1"),
        (f"10.9.9.9, {CALLER}", CALLER),
        (f"{CALLER}, 10.0.0.3, fd00::2", CALLER),
        (f"192.0.2.66, {CALLER}, 10.0.0.3", CALLER),
        ("10.0.0.4, 10.0.0.3", "10.0.0.4"),
        (f"{CALLER}, garbage, 10.0.0.3", UNKNOWN_PEER),
        (f"{CALLER},", UNKNOWN_PEER),
        ("", UNKNOWN_PEER),
        ("unknown", UNKNOWN_PEER),
        ("_hidden", UNKNOWN_PEER),
        ("203.0.113", UNKNOWN_PEER),
        ("203.0.113.09", UNKNOWN_PEER),
        ("3405803785", UNKNOWN_PEER),
        ("0xcb.0.113.9", UNKNOWN_PEER),
        ("203.0.113.9/32", UNKNOWN_PEER),
        ("[203.0.113.9", CALLER),
        ("\uff1203.0.113.9", UNKNOWN_PEER),
    ],
)
def test_of_what_a_trusted_proxy_says_the_nearest_stranger_counts(said: str, address: str, remote: str) -> None:
    assert found((XFF, said), remote=remote) == address


@pytest.mark.parametrize(
    ("said", "address"),
    [
        (f"for={CALLER}", CALLER),
        (f"FOR={CALLER};proto=https;by=10.0.0.1", CALLER),
        (f"proto=https; for = {CALLER}", CALLER),
        ('for="[2001:db8::1]:4711"', "2001:db8::1"),
        (f'for="{CALLER}:80"', CALLER),
        (f'proto=https; for = "{CALLER}:80" ; by=10.0.0.1', CALLER),
        (f"for=10.9.9.9, for={CALLER}", CALLER),
        (f"for={CALLER}, for=10.0.0.3;proto=http", CALLER),
        (f'for="10.9.9.9, for={CALLER}', CALLER),
        ("proto=https", UNKNOWN_PEER),
        (f"for={CALLER}, proto=https", UNKNOWN_PEER),
        (f"for={CALLER};host=a;for=192.0.2.66", UNKNOWN_PEER),
        (f'for={CALLER};host="judge:8080"', CALLER),
        ("for=unknown", UNKNOWN_PEER),
        ("for=_hidden", UNKNOWN_PEER),
        ("for", UNKNOWN_PEER),
        (CALLER, UNKNOWN_PEER),
    ],
)
def test_the_standard_s_header_is_read_likewise(said: str, address: str) -> None:
    assert found((FORWARDED, said)) == address


@pytest.mark.parametrize(
    "host",
    ["a;for={}", "a;for={};b", "a,for={}", "a,for={};b", "a,for={},b", r"a\";for={};b=\"", r"a\",for={};b=\""],
)
@pytest.mark.parametrize("said", [f'host="%s";for={CALLER}', f'for={CALLER};host="%s"'])
def test_the_caller_s_own_host_that_a_proxy_repeats_names_no_address(host: str, said: str) -> None:
    """RFC 3986 allows commas and semicolons in a host, and RFC 7239 puts it in quotes."""
    assert found((FORWARDED, said % host.format("192.0.2.66"))) in {CALLER, UNKNOWN_PEER}


def test_a_text_longer_than_any_address_is_none() -> None:
    zone = "%" + "z" * (LONGEST_TEXT - len("fe80::1%"))
    assert found((XFF, f"fe80::1{zone}")) == "fe80::1"
    assert found((XFF, f"fe80::1{zone}z")) == UNKNOWN_PEER


def test_several_lines_of_a_header_are_one_list() -> None:
    assert found((XFF, "10.9.9.9"), (XFF, f"{CALLER}, 10.0.0.3"), (XFF, "10.0.0.2")) == CALLER
    assert found((FORWARDED, "for=10.9.9.9"), (FORWARDED, f"for={CALLER}")) == CALLER


def test_a_header_that_the_proxy_only_passes_on_makes_nobody_somebody_else() -> None:
    assert found((XFF, CALLER), (FORWARDED, "for=10.9.9.9")) == UNKNOWN_PEER
    assert found((XFF, "10.9.9.9"), (FORWARDED, f"for={CALLER}")) == UNKNOWN_PEER
    assert found((XFF, CALLER), (FORWARDED, f"for={CALLER}")) == CALLER


def test_a_longer_way_than_any_real_one_is_not_followed() -> None:
    way = ", ".join(["10.0.0.3"] * (MOST_HOPS - 1))
    assert found((XFF, f"{CALLER}, {way}")) == CALLER
    assert found((XFF, f"{CALLER}, 10.0.0.3, {way}")) == UNKNOWN_PEER


HOPS = st.one_of(
    st.ip_addresses().map(str),
    st.sampled_from(["10.0.0.3", "fd00::3", "unknown", "[", "[::1", '"', ":", "%", ";", "for=", ""]),
    st.text(st.characters(codec="latin-1", exclude_characters="\r\n,"), max_size=20),
)
LINES = st.lists(st.tuples(st.sampled_from([XFF, FORWARDED]), st.lists(HOPS, max_size=5).map(",".join)), max_size=4)


@given(lines=LINES, remote=st.one_of(st.none(), HOPS))
@example(lines=[(XFF, "::ffff:10.0.0.3")], remote=PROXY)
def test_garbage_never_raises_and_never_becomes_an_address(lines: list[tuple[str, str]], remote: str | None) -> None:
    address = found(*lines, remote=remote)
    assert address == UNKNOWN_PEER or str(ipaddress.ip_address(address)) == address


def test_of_a_long_way_only_the_nearest_hops_are_read() -> None:
    with patch.object(peer, "_forwarded_for", return_value="10.0.0.3") as read:
        assert found((FORWARDED, ", ".join(["for=10.0.0.3"] * 10_000))) == UNKNOWN_PEER
    assert read.call_count == MOST_HOPS + 1


@given(lines=LINES, remote=st.ip_addresses().filter(lambda address: not any(address in net for net in TRUSTED)))
def test_nothing_that_a_stranger_says_changes_its_address(
    lines: list[tuple[str, str]], remote: ipaddress.IPv4Address | ipaddress.IPv6Address
) -> None:
    assert found(*lines, remote=str(remote)) == found(remote=str(remote))


@given(forged=LINES, way=st.lists(st.sampled_from(["10.0.0.3", "fd00::3"]), max_size=3))
def test_nothing_that_a_caller_forges_gives_it_another_address(forged: list[tuple[str, str]], way: list[str]) -> None:
    """The first proxy appends the caller, the others the proxy before them; each to the last line of its header."""
    assert found(*forged, (XFF, ", ".join([CALLER, *way]))) in {CALLER, UNKNOWN_PEER}
