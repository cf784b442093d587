"""The one reader of broker URLs."""

import pytest

from dpiqa.broker import require_files
from dpiqa.broker_url import BrokerKind, read_broker_url
from dpiqa.errors import ConfigurationError
from dpiqa.settings import load_settings
from dpiqa.urls import mask_url

SECRET = "s3cr#t/p?a@s:s%w+o=r&d"
ENCODED = "s3cr%23t%2Fp%3Fa%40s%3As%25w%2Bo%3Dr%26d"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("redis://", "redis://localhost:6379/0"),
        ("redis://h", "redis://h:6379/0"),
        ("REDIS://h:7/3", "redis://h:7/3"),
        ("valkey://h/1", "redis://h:6379/1"),
        ("valkeys://h", "rediss://h:6379/0"),
        ("rediss://default:pw@h:6380", "rediss://default:***@h:6380/0"),
        ("redis://[::1]:6390/2", "redis://[::1]:6390/2"),
        ("redis://h?db=4", "redis://h:6379/4"),
        ("redis://h?username=u&password=p", "redis://u:***@h:6379/0"),
        ("redis://nopass:@h", "redis://nopass:***@h:6379/0"),
        ("unix:///run/V.sock?db=2", "redis+socket:///run/V.sock?virtual_host=2"),
        ("redis+socket://u:p@/run/v.sock", "redis+socket://u:***@/run/v.sock?virtual_host=0"),
        ("valkey+socket:///run/v.sock?virtual_host=5", "redis+socket:///run/v.sock?virtual_host=5"),
        ("sentinel://a,b:1,[::1]:2/3?master_name=m", "sentinel://a:26379,b:1,[::1]:2/3?master_name=m"),
        ("sentinel://:p@a:1;sentinel://:p@b:2/0?master_name=m", "sentinel://:***@a:1,b:2/0?master_name=m"),
        ("sentinels://a?master_name=m", "sentinels://a:26379/0?master_name=m"),
        ("amqp://u:p@h//", "amqp://u:***@h:5672/%2F"),
        ("amqps://h/prod%2Fa", "amqps://h:5671/prod%2Fa"),
        ("sqs://", "sqs://"),
        ("sqs://KEY:se%2Fcret@localhost:5000?region=eu-west-1", "sqs://KEY:***@localhost:5000"),
    ],
)
def test_urls_are_read_as_their_servers_users_write_them(text, shown):
    url = read_broker_url(text)
    assert str(url) == shown
    assert read_broker_url(url.address).address == url.address  # what is shown can be copied


@pytest.mark.parametrize("scheme", ["redis", "rediss", "amqp"])
def test_a_password_may_hold_every_character(scheme):
    assert read_broker_url(f"{scheme}://me:{ENCODED}@h").password == SECRET
    assert read_broker_url(f"{scheme}://:a@b:c@h").password == "a@b:c"  # unambiguous without encoding


@pytest.mark.parametrize(
    ("written", "means"),
    [
        ("", "required"),
        ("ssl_cert_reqs=required", "required"),
        ("ssl_cert_reqs=CERT_REQUIRED", "required"),
        ("ssl_cert_reqs=optional", "optional"),
        ("ssl_cert_reqs=CERT_OPTIONAL", "optional"),
        ("ssl_cert_reqs=none", "none"),
        ("ssl_cert_reqs=CERT_NONE", "none"),
        ("ssl_cert_reqs=None", "none"),
    ],
)
def test_certificates_are_verified_unless_the_url_says_otherwise(written, means):
    for scheme, more in [("rediss", ""), ("valkeys", ""), ("amqps", ""), ("sentinels", "&master_name=m")]:
        tls = read_broker_url(f"{scheme}://h?{written}{more}").tls
        assert tls == {"ssl_cert_reqs": means, "ssl_check_hostname": means != "none"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("redis", "is not a URL"),
        ("http://:PASSWORD@h", "scheme that is not supported"),
        ("redis+cluster://:PASSWORD@h", "Redis Cluster"),
        ("rediss+cluster://h", "Redis Cluster"),
        ("redis-cluster://h", "Redis Cluster"),
        ("redis://:PASS/WORD@h:6379/0", "percent-encoded"),
        ("redis://:PASS#WORD@h:6379/0", "percent-encoded"),
        ("redis://:PASS?WORD@h:6379/0", "percent-encoded"),
        ("redis://:PASS@PASS/WORD@h:6379/0", "percent-encoded"),
        ("redis://:PASSWORD %@h", "a space"),
        ("redis://:PASSWORD\n@h", "a space"),
        ("redis://:%ffPASSWORD@h", "not in UTF-8"),
        ("redis://PASSWORD@h", "a user name and no password"),
        ("redis://:PASSWORD@127.0.0.1:zz/0", "cannot be read"),
        ("redis://:%zzPASSWORD@[::1/0", "cannot be read"),
        ("redis://h:PASSWORD/0", "cannot be read"),
        ("redis://::1/0", "without brackets"),
        ("redis://h:0", "between 1 and 65535"),
        ("redis://h:65536", "between 1 and 65535"),
        ("redis://h/PASSWORD", "not a number"),
        ("redis://h/-1", "not a number"),
        ("redis://h/1?db=2", "two databases"),
        ("redis://h?visibility=PASSWORD", "unknown parameter 'visibility'"),
        ("redis://h?socket_timeout=PASSWORD", "a number of seconds above 0"),
        ("redis://h?client_name=a&client_name=b", "twice"),
        ("redis://:a@h?password=PASSWORD", "twice"),
        ("redis://h?ssl=true", "by the scheme"),
        ("redis://h?ssl_cert_reqs=none", "write rediss://"),
        ("rediss://h?ssl_cert_reqs=PASSWORD", "required, optional or none"),
        ("rediss://h?ssl_cert_reqs=none&ssl_check_hostname=true", "wants the host name checked"),
        ("rediss://h?ssl_keyfile=/k", "without ssl_certfile"),
        ("rediss://h?ssl_ca_certs=ca.pem", "absolute path"),
        ("redis+socket://run/v.sock", "three slashes"),
        ("unix://", "three slashes"),
        ("redis://a:PASSWORD,b", "several hosts"),
        ("redis://:PASSWORD@a;redis://:PASSWORD@b", "several brokers"),
        ("amqp://u:PASSWORD@a;amqp://u:PASSWORD@b", "several brokers"),
        ("sentinel://a,b", "does not name the master"),
        ("sentinel://:PASSWORD@a;sentinel://:OTHERPASSWORD@b?master_name=m", "several user names or passwords"),
        ("sqs://KEY:@h", "only one of access key id and secret"),
        ("sqs://h/queue", "has a path"),
        ("memory://", "not supported"),
        ("amqp://h?heartbeat=5", "unknown parameter 'heartbeat'"),
    ],
)
def test_what_cannot_work_is_refused_in_one_line_without_any_part_of_a_password(text, says, monkeypatch):
    with pytest.raises(ValueError, match=says) as refused:
        read_broker_url(text)
    assert "PASS" not in str(refused.value)
    assert "\n" not in str(refused.value)
    monkeypatch.setenv("DPIQA_BROKER_URL", text)
    with pytest.raises(ConfigurationError, match="DPIQA_BROKER_URL is wrong: ") as error:
        load_settings()
    assert error.value.hint


def test_nothing_that_is_shown_holds_the_password():
    for text in (f"redis://u:{ENCODED}@h", f"sentinel://a?master_name=m&password={ENCODED}", f"amqp://u:{ENCODED}@h"):
        url = read_broker_url(text)
        assert url.password == SECRET
        for shown in (str(url), repr(url), url.address, mask_url(text)):
            assert "s3cr" not in shown


@pytest.mark.parametrize("text", ["redis://:a/SECRET@h", "redis://:a#SECRET@h", "redis://:a?SECRET@h"])
def test_a_url_that_is_cut_within_its_password_is_not_shown(text):
    assert mask_url(text) == "redis://***"


def test_the_kinds_that_are_redis():
    kinds = {text: read_broker_url(text) for text in ("redis://h", "sentinel://h?master_name=m", "amqp://h", "sqs://")}
    assert {text: url.kind for text, url in kinds.items()} == dict(zip(kinds, BrokerKind, strict=True))
    assert [url.is_redis for url in kinds.values()] == [True, True, False, False]


def test_sqs_takes_the_region_of_the_settings(monkeypatch):
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    for text, region in (("sqs://", "eu-central-1"), ("sqs://?region=eu-west-1", "eu-west-1")):
        assert load_settings(broker_url=text).require_broker_url().options["region"] == region


def test_files_that_do_not_exist_or_are_no_certificates_are_refused(tmp_path):
    with pytest.raises(ConfigurationError, match="there is no file") as missing:
        require_files(read_broker_url(f"rediss://h?ssl_ca_certs={tmp_path}/ca.pem"))
    assert "ssl_ca_certs" in missing.value.hint
    (tmp_path / "ca.pem").write_text("nonsense")
    with pytest.raises(ConfigurationError, match="cannot be used"):
        require_files(read_broker_url(f"rediss://h?ssl_ca_certs={tmp_path}/ca.pem"))
    with pytest.raises(ConfigurationError, match="cannot be used"):
        require_files(read_broker_url(f"rediss://h?ssl_certfile={tmp_path}/ca.pem"))
    with pytest.raises(ConfigurationError, match="cannot be used"):
        require_files(read_broker_url("rediss://h?ssl_ciphers=nonsense"))
    require_files(read_broker_url("rediss://h"))
    require_files(read_broker_url("redis://h"))
