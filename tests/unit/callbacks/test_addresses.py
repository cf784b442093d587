"""URLs and addresses that a callback may, and may not, go to."""

import socket
from ipaddress import ip_address

import pytest

from dpiqa.callbacks import addresses
from dpiqa.callbacks.addresses import CallbackRules, is_public, shown
from dpiqa.errors import Forbidden, InvalidRequest, Unavailable

PRIVATE = [
    "127.0.0.1",
    "127.8.8.8",
    "0.0.0.0",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "169.254.170.2",
    "100.64.0.1",
    "100.100.100.200",
    "192.0.0.192",
    "198.18.0.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::1",
    "::",
    "fe80::1",
    "fc00::1",
    "fd00:ec2::254",
    "ff02::1",
    "::ffff:127.0.0.1",
    "::ffff:8.8.8.8",
    "::ffff:169.254.169.254",
    "::127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::1",
    "2002:7f00:1::",
    "2002:a9fe:a9fe::1",
    "2001:0:7f00:1::",
    "fec0::1",
    "2001:db8::1",
]
PUBLIC = ["8.8.8.8", "93.184.216.34", "2606:4700:4700::1111", "2a00:1450:4001::1"]


@pytest.mark.parametrize("text", PRIVATE)
def test_what_is_not_public_is_refused_as_written_and_as_resolved(text, monkeypatch):
    assert not is_public(ip_address(text))
    url = f"https://[{text}]/x" if ":" in text else f"https://{text}/x"
    with pytest.raises(InvalidRequest):
        CallbackRules().parse(url)
    resolves_to(monkeypatch, "8.8.8.8", text)
    with pytest.raises(Forbidden, match="not public"):
        CallbackRules().resolve(CallbackRules().parse("https://example.org/"))


@pytest.mark.parametrize("text", PUBLIC)
def test_what_is_public_is_called(text, monkeypatch):
    assert is_public(ip_address(text))
    resolves_to(monkeypatch, text)
    assert CallbackRules().resolve(CallbackRules().parse("https://example.org:8443/")) == [text]


@pytest.mark.parametrize(
    "url",
    [
        "https://127.1/",
        "https://2130706433/",
        "https://0x7f000001/",
        "https://0177.0.0.1/",
        "https://localhost/",
        "https://localhost./",
        "https://LOCALHOST:8443/",
        "https://a.localhost/",
        "https://printer.local/",
        "http://example.org/",
        "ftp://example.org/",
        "https://user:secret@example.org/",
        "https://example.org@127.0.0.1/",
        "https://example.org/#part",
        "https:///x",
        "https://",
        "//example.org/",
        "https://example.org:0/",
        "https://example.org:99999/",
        "https://exa mple.org/",
        "https://example.org\\@127.0.0.1/",
        "https://example.org/\r\nHost: x",
        "https://[::1]/",
        "https://[::ffff:7f00:1]/",
        "https://[fe80::1%25eth0]/",
        "https://ex\u00e4mple.org/",
        "https://example.org/" + "x" * 2000,
        "https://168.63.129.16/",
    ],
)
def test_wrong_urls_are_refused_in_one_line_without_their_secrets(url):
    with pytest.raises(InvalidRequest) as error:
        CallbackRules().parse(url)
    assert "\n" not in str(error.value)
    assert "secret" not in str(error.value)


def test_a_list_narrows_and_permits_private_hosts_by_name_address_or_network(monkeypatch):
    rules = CallbackRules("hooks.internal *.example.org 10.1.0.0/16 127.0.0.1")
    resolves_to(monkeypatch, "10.9.9.9")
    assert rules.resolve(rules.parse("http://hooks.internal:8080/x?y=1")) == ["10.9.9.9"]
    assert rules.resolve(rules.parse("https://a.b.example.org/")) == ["10.9.9.9"]
    assert rules.parse("http://127.0.0.1:9000/").authority == "127.0.0.1:9000"
    with pytest.raises(Forbidden):
        rules.resolve(rules.parse("https://other.internal/"))  # its address may be listed: looked at when it is known
    resolves_to(monkeypatch, "10.1.2.3")
    assert rules.resolve(rules.parse("https://other.internal/")) == ["10.1.2.3"]
    resolves_to(monkeypatch, "8.8.8.8")
    with pytest.raises(Forbidden, match="may not go to"):
        rules.resolve(rules.parse("https://public.example.com/"))
    for never in ("https://example.org/", "https://10.2.0.1/", "https://127.0.0.2/", "http://10.2.0.1/"):
        if never != "https://example.org/":
            with pytest.raises(InvalidRequest):
                rules.parse(never)


@pytest.mark.parametrize(
    "text", ["169.254.169.254", "fe80::1", "fd00:ec2::254", "::ffff:10.0.0.1", "0.0.0.0", "224.0.0.1"]
)
def test_metadata_and_link_local_are_refused_whatever_is_listed(text, monkeypatch):
    rules = CallbackRules("hooks.internal 0.0.0.0/0 ::/0")
    resolves_to(monkeypatch, text)
    with pytest.raises(Forbidden):
        rules.resolve(rules.parse("https://hooks.internal/"))


def test_names_only_make_a_list_that_nothing_else_passes():
    with pytest.raises(InvalidRequest, match="may not go to"):
        CallbackRules("hooks.internal").parse("https://example.org/")
    with pytest.raises(InvalidRequest, match="not a host"):
        CallbackRules("https://example.org/")


def test_a_name_that_cannot_be_resolved_is_tried_again(monkeypatch):
    def fail(*args, **kwargs):
        raise socket.gaierror

    monkeypatch.setattr(addresses.socket, "getaddrinfo", fail)
    with pytest.raises(Unavailable):
        CallbackRules().resolve(CallbackRules().parse("https://nowhere.example.org/"))


def test_path_and_query_are_not_shown():
    assert shown("https://example.org/hooks/secret") == "https://example.org/..."
    assert shown("https://example.org?token=secret") == "https://example.org/..."
    assert shown("https://example.org/") == "https://example.org"


def resolves_to(monkeypatch, *found):
    def getaddrinfo(host, port, type):  # noqa: A002 - as the real one
        return [(None, type, 0, "", (address, port)) for address in found]

    monkeypatch.setattr(addresses.socket, "getaddrinfo", getaddrinfo)


@pytest.mark.parametrize(
    "host",
    [".example.org", "ex..ample.org", "%31%32%37.0.0.1", "127.0.0.1%2f.example.org", "a" * 64 + ".org", "[v1.x:]"],
)
def test_what_cannot_be_the_name_of_a_host_is_refused_at_once(host):
    with pytest.raises(InvalidRequest):
        CallbackRules().parse(f"https://{host}/ended")


def test_a_name_is_at_most_253_characters():
    with pytest.raises(InvalidRequest, match="name of a host"):
        CallbackRules().parse(f"https://{'a.' * 126}org/ended")
    assert CallbackRules().parse(f"https://{'a.' * 125}org/ended").host == "a." * 125 + "org"
