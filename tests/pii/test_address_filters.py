import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st


@given(st.ip_addresses())
def test_every_address_that_is_not_global_is_an_example(kind, address):
    if not address.is_global:
        assert kind("IP_ADDRESS", str(address)) == "example"


@given(st.ip_addresses(v=4, network="93.184.0.0/16"))
def test_ordinary_global_addresses_are_real(kind, address):
    if not str(address).endswith(".0.0"):
        assert kind("IP_ADDRESS", str(address)) == "real"


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_written_as_ipv6_has_the_same_kind(kind, address):
    mapped = ipaddress.IPv6Address(f"::ffff:{address}")
    assert kind("IP_ADDRESS", str(mapped)) == kind("IP_ADDRESS", str(address))


@pytest.mark.parametrize("address", ["2a02:6b8:b010:cafe:1::115", "2a01:4f8:c0c:1234::1"])
def test_one_group_that_spells_a_word_makes_no_address_up(kind, address):
    assert kind("IP_ADDRESS", address) == "real"
    assert kind("IP_ADDRESS", "2a01:dead:beef::7:1") == "example"


@pytest.mark.parametrize(
    ("label", "value"),
    [
        ("IP_ADDRESS", "93.184.216.34"), ("IP_ADDRESS", "2a00:1450:4001:81b::200e"),
        ("IP_ADDRESS", "::ffff:93.184.216.34"), ("IP_ADDRESS", "172.32.7.9"),
        ("IP_ADDRESS", "100.128.7.9"), ("EMAIL", "jane.miller@corp.io"),
        ("EMAIL", "me@jmiller.dev"), ("EMAIL", "info@mail.brandt.co.uk"),
        ("EMAIL", "noreply@corp.io"), ("EMAIL", "12+jane@users.noreply.github.com"),
        ("EMAIL", "ottilie at corp dot io"),
    ],
)  # fmt: skip
def test_what_could_identify_somebody_stays_real(kind, label, value):
    assert kind(label, value) == "real"


@pytest.mark.parametrize(
    ("label", "value"),
    [
        *(("IP_ADDRESS", ip) for ip in (
            "127.0.0.1", "0.0.0.0", "10.1.2.3", "172.16.0.9", "255.255.255.0", "224.0.0.251",
            "169.254.7.9", "192.0.2.7", "198.51.100.7", "203.0.113.7", "8.8.8.8", "1.2.3.4",
            "5.6.7.8", "44.44.44.44", "::1", "::", "fe80::7:8:9", "fd12:3456:789a::7", "ff02::fb",
            "2001:db8::7:8:9", "::ffff:10.0.0.7", "2002:7f00:1::", "64:ff9b::7f00:1",
            "2001:4860:4860::8888",
        )),
        *(("EMAIL", mail) for mail in (
            "a@example.com", "jane@mail.example.co.uk", "jane@foo.test", "jane@domain.com",
            "user@localhost", "foo@bar.com", "first.last@gmail.com", "jane@your-domain.net",
            "chacha20-poly1305@openssh.com",
        )),
    ],
)  # fmt: skip
def test_placeholders_and_documentation_values_are_examples(kind, label, value):
    assert kind(label, value) == "example"


@pytest.mark.parametrize(
    ("label", "value", "before", "after"),
    [
        ("EMAIL", "186391612191752@vla1.corp.io", "see ", "\n"),
        ("EMAIL", "20090122213325.GA11572@crow.corp.io", "see ", "\n"),
        ("EMAIL", "4C9AB98E.3000400@corp.io", "see ", "\n"),
        ("EMAIL", "87sg1qxdye.fsf@corp.io", "see ", "\n"),
        ("EMAIL", "CA+Tk8fzb9i9LrC_k4G978c5XR@mail.gmail.com", "see ", "\n"),
        ("EMAIL", "LL@li.org", "Language-Team: LANGUAGE <", ">\n"),
        ("EMAIL", "jane@example7.com", "to ", "\n"),
        ("EMAIL", "jane@another-domain.net", "to ", "\n"),
        ("EMAIL", "jane at example dot com", "to ", "\n"),
        ("EMAIL", "username [at] corp.io", "to ", "\n"),
        ("EMAIL", "s@corp.io", "'%", "' % user\n"),
    ],
)
def test_what_stands_around_a_value_can_make_it_an_example(kind, label, value, before, after):
    assert kind(label, value, before, after) == "example"


@pytest.mark.parametrize(
    ("label", "value", "before", "after"),
    [
        ("EMAIL", "jane@domainfactory-gmbh.de", "to ", "\n"),
        ("EMAIL", "jane at corp dot io", "to ", "\n"),
        ("EMAIL", "20090122@corp.io", "see ", "\n"),
    ],
)
def test_what_stands_around_a_value_can_leave_it_real(kind, label, value, before, after):
    assert kind(label, value, before, after) == "real"
