import base64
import json
from datetime import UTC, datetime
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpiqa.errors import InvalidRequest
from dpiqa.events import MAX_BODY_BYTES, Access, compare_sequencers, parse
from dpiqa.types import ImageRef, Removal

TIME = datetime(2026, 11, 21, 6, 0, 0, 123000, UTC)


def record(name="ObjectCreated:Put", source="aws:s3", key="photos%2Fa+b.jpg", version="2.1", **item):
    content = {"key": key, "size": 7, "eTag": "abc", "sequencer": "0055AED6DCD90281E5", **item}
    return {
        "eventVersion": version,
        "eventSource": source,
        "eventTime": "2026-11-21T06:00:00.123Z",
        "eventName": name,
        "s3": {"bucket": {"name": "archive"}, "object": content},
    }


def records(*items):
    return {"Records": list(items)}


def eventbridge(kind="Object Created", **detail):
    item = {"key": "photos/a+b %2B.jpg", "size": 7, "etag": "abc", "sequencer": "00", "version-id": "v1"}
    return {
        "version": "0",
        "detail-type": kind,
        "source": "aws.s3",
        "time": "2026-11-21T06:00:00.123Z",
        "detail": {"bucket": {"name": "archive"}, "object": item, **detail},
    }


def test_aws():
    parsed = parse(json.dumps(records(record(versionId="v1"))).encode())
    expected = ImageRef(
        bucket="archive",
        key="photos/a b.jpg",
        etag="abc",
        version_id="v1",
        size=7,
        last_modified=TIME,
        sequencer="0055AED6DCD90281E5",
    )
    assert parsed.images == [expected]
    assert not parsed.removals
    assert not parsed.ignored


def test_minio_names_its_events_with_a_prefix_and_its_sequencer_orders_nothing():
    body = {
        "EventName": "s3:ObjectCreated:Put",
        "Key": "archive/photos/a b.jpg",
        "Records": [record("s3:ObjectCreated:CompleteMultipartUpload", "minio:s3", version="2.0", eTag='"abc-2"')],
    }
    (image,) = parse(body).images
    assert (image.key, image.etag, image.sequencer) == ("photos/a b.jpg", "abc-2", None)
    removed = record("s3:ObjectRemoved:Delete", "minio:s3", version="2.0")
    assert parse(records(removed)).removals == [Removal(bucket="archive", key="photos/a b.jpg", occurred_at=TIME)]


@pytest.mark.parametrize("source", ["ceph:s3", "ceph:s3.default.archive"])
def test_ceph_does_not_encode_keys(source):
    raw = record(source=source, key="a+b %2B/ü.jpg", version="2.2", versionId="", sequencer="4DFF006B")
    raw["eventTime"] = "2026-11-21T06:00:00.123456Z"
    (image,) = parse(records(raw)).images
    assert (image.key, image.version_id, image.sequencer) == ("a+b %2B/ü.jpg", None, None)
    assert image.last_modified.microsecond == 123456


def test_eventbridge_does_not_encode_keys():
    (image,) = parse(eventbridge(reason="PutObject")).images
    assert image == ImageRef(
        bucket="archive",
        key="photos/a+b %2B.jpg",
        etag="abc",
        version_id="v1",
        size=7,
        last_modified=TIME,
        sequencer="00",
    )


@pytest.mark.parametrize(
    ("kind", "version_id"), [("Permanently Deleted", "v1"), ("Delete Marker Created", None), (None, "v1")]
)
def test_eventbridge_removals(kind, version_id):
    (removal,) = parse(eventbridge("Object Deleted", **{"deletion-type": kind})).removals
    assert (removal.key, removal.version_id, removal.occurred_at) == ("photos/a+b %2B.jpg", version_id, TIME)


@pytest.mark.parametrize(
    ("name", "version_id"),
    [
        ("ObjectRemoved:Delete", "v1"),
        ("ObjectRemoved:DeleteMarkerCreated", None),
        ("LifecycleExpiration:Delete", "v1"),
        ("LifecycleExpiration:DeleteMarkerCreated", None),
        ("ObjectLifecycle:Expiration:Current", None),
        ("ObjectLifecycle:Expiration:NonCurrent", "v1"),
    ],
)
def test_a_delete_marker_hides_the_object_and_its_own_version_means_nothing(name, version_id):
    parsed = parse(records(record(name, versionId="v1")))
    assert [removal.version_id for removal in parsed.removals] == [version_id]
    assert not parsed.images


def test_an_sns_envelope_is_opened():
    inner = json.dumps(records(record()))
    assert len(parse({"Type": "Notification", "MessageId": "1", "Message": inner}).images) == 1
    assert len(parse({"Type": "Notification", "Message": json.dumps(eventbridge())}).images) == 1
    with pytest.raises(InvalidRequest):
        parse({"Type": "Notification", "Message": "hello"})


def test_the_test_event_is_acknowledged():
    body = {"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "archive"}
    assert parse(body).ignored == ["s3:TestEvent"]
    assert parse({"Type": "Notification", "Message": json.dumps(body)}).ignored == ["s3:TestEvent"]


@pytest.mark.parametrize(
    ("ignored", "why"),
    [
        (record("ObjectRestore:Post"), "ObjectRestore:Post"),
        (record("LifecycleTransition"), "LifecycleTransition"),
        (record("s3:ObjectAccessed:Get", "minio:s3"), "ObjectAccessed"),
        (record(source="acme:queue"), "unknown source 'acme:queue'"),
        (record(version="3.0"), "unknown event version '3.0'"),
        (record(key="folder%2F", size=0), "folder marker"),
        (record(key=""), "no usable bucket or key"),
        (record(key="a%00b"), "no usable bucket or key"),
        (record(key="%ff"), "malformed"),
        (record(key=None), "malformed"),
        (record(source="ceph:s3", key="\ud800"), "no usable bucket or key"),
        ({"eventName": "ObjectCreated:Put", "eventSource": "aws:s3"}, "malformed"),
        ("text", "malformed"),
        (None, "malformed"),
    ],
)
def test_one_useless_record_is_counted_and_costs_the_others_nothing(ignored, why):
    parsed = parse(records(record(key="before"), ignored, record(key="after")))
    assert [image.key for image in parsed.images] == ["before", "after"]
    assert len(parsed.ignored) == 1
    assert why in parsed.ignored[0]


def test_other_eventbridge_events_are_ignored():
    for kind in ("Object Storage Class Changed", "Object Access Tier Changed", "AWS API Call via CloudTrail"):
        assert parse({"source": "aws.s3", "detail-type": kind, "detail": {}}).ignored == [f"event {kind!r}"]
    for other in ({**eventbridge(), "source": "acme"}, {"detail-type": "Object Created", "source": "aws.s3"}):
        with pytest.raises(InvalidRequest):
            parse(other)


def test_storagegrid_sends_what_aws_does():
    (image,) = parse(records(record(source="sgws:s3", version="2.0"))).images
    assert (image.key, image.sequencer) == ("photos/a b.jpg", "0055AED6DCD90281E5")


@pytest.mark.parametrize(
    ("name", "is_restored"),
    [("ObjectRestore:Completed", True), ("ObjectAcl:Put", False), ("ObjectTagging:Put", False)],
)
def test_news_of_access_are_no_new_bytes(name, is_restored):
    parsed = parse(records(record(name, versionId="v1"), record(f"s3:{name}", "minio:s3")))
    assert not parsed.images
    assert parsed.access == [
        Access(bucket="archive", key="photos/a b.jpg", etag="abc", is_restored=is_restored) for _ in range(2)
    ]


def test_news_of_access_by_eventbridge():
    for kind, is_restored in (("Object Restore Completed", True), ("Object ACL Updated", False)):
        (one,) = parse(eventbridge(kind)).access
        assert one == Access(bucket="archive", key="photos/a+b %2B.jpg", etag="abc", is_restored=is_restored)


def in_sns(event):
    return {"Type": "Notification", "MessageId": "1", "TopicArn": "arn", "Message": json.dumps(event)}


def in_sqs(event):
    return {"messageId": "1", "receiptHandle": "r", "body": json.dumps(event), "eventSource": "aws:sqs"}


ENVELOPES = {
    "SNS": in_sns,
    "SQS of SNS by Lambda": lambda event: records(in_sqs(in_sns(event))),
    "SNS by Lambda": lambda event: records({"EventSource": "aws:sns", "EventVersion": "1.0", "Sns": in_sns(event)}),
    "SQS by Lambda": lambda event: records(in_sqs(event)),
    "Pipes": lambda event: [in_sqs(event)],
    "Pipes with an input template": lambda event: [event],
    "Lambda destination": lambda event: {
        "version": "1.0",
        "requestContext": {"condition": "RetriesExhausted"},
        "requestPayload": event,
        "responsePayload": {"errorMessage": "x"},
    },
    "API Gateway": lambda event: {"requestContext": {}, "body": json.dumps(event), "isBase64Encoded": False},
    "Lambda URL": lambda event: {
        "requestContext": {},
        "body": base64.b64encode(json.dumps(event).encode()).decode(),
        "isBase64Encoded": True,
    },
}


@pytest.mark.parametrize("envelope", ENVELOPES)
@pytest.mark.parametrize("event", [records(record(), record(key="b")), eventbridge()], ids=["s3", "eventbridge"])
def test_an_envelope_is_opened(envelope, event):
    body = json.dumps(ENVELOPES[envelope](event)).encode()
    assert parse(body) == parse(event)


def test_a_batch_is_read_whole_and_what_is_not_understood_of_it_is_named():
    batch = [in_sqs(records(record())), in_sqs({"hello": 1}), eventbridge(), record(key="c"), 7]
    parsed = parse(json.dumps(batch))
    assert [image.key for image in parsed.images] == ["photos/a b.jpg", "photos/a+b %2B.jpg", "c"]
    assert parsed.ignored == ["the event has neither Records nor detail-type", "malformed record"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"Type": "SubscriptionConfirmation", "Token": "t", "SubscribeURL": "https://sns"}, "open its SubscribeURL"),
        ({"Type": "UnsubscribeConfirmation", "Token": "t"}, "SNS asks for a UnsubscribeConfirmation"),
        ([{"eventType": "Microsoft.Storage.BlobCreated", "data": {}}], "an Azure Event Grid event"),
        ({"specversion": "1.0", "type": "Microsoft.Storage.BlobCreated"}, "a CloudEvents event"),
        ({"message": {"attributes": {}, "data": ""}, "subscription": "s"}, "a Google Pub/Sub message"),
        ({"kind": "storage#object", "selfLink": "https://"}, "a Google Cloud Storage notification"),
        (records({"eventSource": "aws:kinesis", "kinesis": {"data": ""}}), "a record of a Kinesis stream"),
        (records({"eventSource": "aws:dynamodb", "dynamodb": {}}), "a record of a DynamoDB stream"),
        (records(record(source="acme:queue")), "unknown source 'acme:queue'"),
        (records(record(version="3.0")), "unknown event version '3.0'"),
        (records(record(key="%ff")), "malformed record"),
        ({**eventbridge(), "source": "acme"}, "an EventBridge event of source 'acme'"),
        (in_sns("hello"), "the event is not a JSON object|malformed record"),
        ([], "the event is empty"),
        ([[[[[[[[in_sqs(records(record()))]]]]]]]], "too many envelopes"),
        ({"requestContext": {}, "body": "%%", "isBase64Encoded": True}, "the message in the envelope is not JSON"),
    ],
)
def test_what_is_not_understood_is_refused_with_a_true_word(body, words):
    with pytest.raises(InvalidRequest, match=words):
        parse(json.dumps(body))


def test_a_multipart_upload_that_is_announced_twice_is_one_image():
    twice = records(record("ObjectCreated:Put"), record("ObjectCreated:CompleteMultipartUpload"))
    assert len(parse(twice).images) == 1
    changed = records(record(eTag="one"), record("ObjectCreated:CompleteMultipartUpload", eTag="two-2"))
    assert [image.etag for image in parse(changed).images] == ["one", "two-2"]


def test_what_an_event_leaves_out_is_unknown():
    bare = record(source="ceph:s3", key="k")
    del bare["eventTime"], bare["eventVersion"]
    bare["s3"]["object"] = {"key": "k"}
    assert parse(records(bare)).images == [ImageRef(bucket="archive", key="k", etag="")]


@pytest.mark.parametrize(
    "body",
    [b"", b"hello", b"[]", b"null", b"7", b"{}", b'{"Records": {}}', b"\xff\xfe", "[" * 200_000, {"Event": "other"}],
)
def test_what_is_no_event_is_refused_with_a_hint(body):
    with pytest.raises(InvalidRequest) as caught:
        parse(body)
    assert caught.value.hint
    assert "\n" not in str(caught.value)


def test_bodies_are_bounded():
    with pytest.raises(InvalidRequest, match=f"at most {MAX_BODY_BYTES}"):
        parse(b" " * (MAX_BODY_BYTES + 1))


KEYS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=200)


@given(KEYS)
def test_keys_survive_every_encoding(key):
    for encoded in (quote_plus(key), quote_plus(key, safe="/"), quote(key, safe="")):
        assert [image.key for image in parse(records(record(key=encoded))).images] == [key]
    raw = [parse(records(record(source="ceph:s3", key=key))), parse(eventbridge(object={"key": key, "size": 1}))]
    assert [parsed.images[0].key for parsed in raw if parsed.images] == [key] * 2


HEX = st.text("0123456789ABCDEF", min_size=1, max_size=24)


@given(HEX, HEX, HEX)
def test_sequencers_are_a_total_order(a, b, c):
    assert compare_sequencers(a, b) == -compare_sequencers(b, a)
    if compare_sequencers(a, b) <= 0 and compare_sequencers(b, c) <= 0:
        assert compare_sequencers(a, c) <= 0


@given(HEX, st.integers(0, 8))
def test_sequencers_are_padded_on_the_right(sequencer, zeros):
    assert compare_sequencers(sequencer, sequencer + "0" * zeros) == 0
    assert compare_sequencers(sequencer, sequencer + "0" * zeros + "1") == -1
    assert compare_sequencers(sequencer.lower(), sequencer) == 0


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=9,
)
WORDS = st.sampled_from(["Records", "s3", "object", "key", "bucket", "name", "eventSource", "eventName", "detail"])


@given(st.dictionaries(WORDS, JSON), st.lists(st.dictionaries(WORDS, JSON), max_size=3))
def test_any_json_is_parsed_or_refused(body, items):
    for candidate in (body, {**body, "Records": items}, {**body, "detail-type": "Object Created", "source": "aws.s3"}):
        try:
            parsed = parse(json.dumps(candidate))
        except InvalidRequest:
            continue
        used = len(parsed.images) + len(parsed.removals) + len(parsed.access) + len(parsed.ignored)
        if "detail-type" in candidate and "Records" not in candidate:
            assert used == 1
        assert used or [] in (candidate["Records"], *(item.get("Records") for item in items))
