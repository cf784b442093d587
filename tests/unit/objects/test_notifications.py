import pytest

from dpiqa.errors import Conflict
from dpiqa.objects.notifications import CREATED, EXPIRED, REMOVED, has_eventbridge, rules_of, with_rule

QUEUE, OTHER = "arn:aws:sqs:eu-west-1:1:events", "arn:aws:sqs:eu-west-1:1:other"
TOPIC = "arn:aws:sns:eu-west-1:1:topic"


def rule(target=QUEUE, events=(CREATED, REMOVED), prefix="", suffix="", **more):
    rules = [{"Name": name, "Value": value} for name, value in (("Prefix", prefix), ("suffix", suffix)) if value]
    arn = "TopicArn" if ":sns:" in target else "QueueArn"
    return {arn: target, "Events": list(events), "Filter": {"Key": {"FilterRules": rules}}, **more}


def of(*entries):
    return {"QueueConfigurations": list(entries)}


@pytest.mark.parametrize(
    ("entry", "prefix", "covered"),
    [
        (rule(), "in/", True),
        (rule(prefix="in/"), "in/", True),
        (rule(prefix="in/"), "in/2024/", True),
        (rule(prefix="in/2024/"), "in/", False),
        (rule(prefix="in/"), "", False),
        (rule(suffix=".jpg"), "in/", False),
        (rule(events=[REMOVED]), "in/", False),
        (rule(events=["s3:ObjectCreated:Put"]), "in/", False),
        (
            rule(events=[f"s3:ObjectCreated:{n}" for n in ("Put", "Post", "Copy", "CompleteMultipartUpload")]),
            "in/",
            True,
        ),
    ],
)
def test_a_rule_covers_a_prefix(entry, prefix, covered):
    (found,) = rules_of(of(entry))
    assert found.covers(prefix, CREATED) is covered


def test_an_empty_configuration_gets_one_rule():
    made = with_rule({}, "in/", QUEUE, [CREATED, REMOVED])
    assert made == {
        "QueueConfigurations": [
            {
                "Id": "dpiqa in/",
                "QueueArn": QUEUE,
                "Events": [CREATED, REMOVED],
                "Filter": {"Key": {"FilterRules": [{"Name": "prefix", "Value": "in/"}]}},
            }
        ]
    }
    assert with_rule(made, "in/", QUEUE, [CREATED, REMOVED]) == made


def test_what_is_there_stays():
    there = {
        "TopicConfigurations": [rule(TOPIC, prefix="other/", Id="theirs")],
        "LambdaFunctionConfigurations": [{"LambdaFunctionArn": "arn:aws:lambda:x:1:function:f", "Events": [EXPIRED]}],
        "EventBridgeConfiguration": {},
        "QueueConfigurations": [rule(OTHER, prefix="logs/", Id="logs")],
        "ResponseMetadata": {"RequestId": "1"},
    }
    made = with_rule(there, "in/", QUEUE, [CREATED, REMOVED])
    assert made["TopicConfigurations"][0]["Id"] == "theirs"
    assert made["LambdaFunctionConfigurations"] == there["LambdaFunctionConfigurations"]
    assert next(rules_of(made)) == next(rules_of(there))
    assert len(made["QueueConfigurations"]) == 2
    assert has_eventbridge(made)
    assert "ResponseMetadata" not in made
    assert len(there["QueueConfigurations"]) == 1  # the argument is unchanged


def test_a_narrower_rule_to_the_same_queue_gives_way():
    made = with_rule(of(rule(prefix="in/", events=[CREATED])), "", QUEUE, [CREATED, REMOVED])
    assert [(r.prefix, r.events) for r in rules_of(made)] == [("", {CREATED, REMOVED})]
    with pytest.raises(Conflict):
        with_rule(of(rule(OTHER, prefix="x/")), "", QUEUE, [CREATED, REMOVED])


def test_missing_removals_are_added_to_the_same_rule():
    made = with_rule(
        of(rule(prefix="in/", events=["s3:ObjectCreated:Put", "s3:ObjectRestore:Post"])),
        "in/",
        QUEUE,
        [CREATED, REMOVED],
    )
    (found,) = rules_of(made)
    assert found.events == {CREATED, REMOVED, "s3:ObjectRestore:Post"}


@pytest.mark.parametrize(
    "entry",
    [
        rule(OTHER, prefix="in/", Id="theirs"),
        rule(OTHER, prefix="in/2024/", Id="theirs"),
        rule(OTHER, Id="theirs"),
        rule(OTHER, suffix=".jpg", events=["s3:ObjectCreated:Put"], Id="theirs"),
        rule(QUEUE, suffix=".jpg", Id="theirs"),
    ],
)
def test_an_overlapping_rule_is_named(entry):
    with pytest.raises(Conflict, match="rule theirs"):
        with_rule(of(entry), "in/", QUEUE, [CREATED, REMOVED])


def test_removals_are_added_beside_the_creations_of_the_same_prefix():
    mine = rule(prefix="in/", events=[CREATED], Id="dpiqa in/")
    (found,) = rules_of(with_rule(of(mine), "in/", QUEUE, [REMOVED]))
    assert found.events == {CREATED, REMOVED}


def test_removals_alone_are_added_where_a_topic_has_the_creations():
    there = {"TopicConfigurations": [rule(TOPIC, prefix="in/", events=[CREATED])]}
    made = with_rule(there, "in/", QUEUE, [REMOVED])
    assert [(r.target, r.events) for r in rules_of(made)] == [(QUEUE, {REMOVED}), (TOPIC, {CREATED})]
    assert made["TopicConfigurations"][0]["Filter"]["Key"]["FilterRules"] == [{"Name": "prefix", "Value": "in/"}]


def test_ids_stay_different():
    made = with_rule(of(rule(OTHER, prefix="x/", Id="dpiqa in/")), "in/", QUEUE, [CREATED])
    assert [r.id for r in rules_of(made)] == ["dpiqa in/", "dpiqa in/ 1"]


def test_targets_go_into_their_lists():
    assert "TopicConfigurations" in with_rule({}, "", TOPIC, [CREATED])
    assert "QueueConfigurations" in with_rule({}, "", "arn:minio:sqs::DPIQA:webhook", [CREATED])
