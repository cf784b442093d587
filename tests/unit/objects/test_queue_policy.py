import copy

import pytest

from dpiqa.objects.queue_policy import denies, permits, statement_for, with_statement

ARN, ACCOUNT = "arn:aws:sqs:eu-west-1:111122223333:events", "111122223333"
GOOD = statement_for("photos", ARN, ACCOUNT)


def changed(**values):
    return {"Version": "2012-10-17", "Statement": [{**copy.deepcopy(GOOD), **values}]}


def test_our_own_statement_permits_one_bucket_of_one_account():
    policy = with_statement(None, GOOD)
    assert permits(policy, "photos", ARN, ACCOUNT)
    assert not permits(policy, "other", ARN, ACCOUNT)
    assert not permits(policy, "photos", ARN, "444455556666")
    assert not permits(policy, "photos", ARN.replace("events", "else"), ACCOUNT)
    assert not permits(None, "photos", ARN, ACCOUNT)


@pytest.mark.parametrize(
    ("values", "permitted"),
    [
        ({"Action": "SQS:*"}, True),
        ({"Action": ["sqs:ReceiveMessage", "sqs:SendMessage"]}, True),
        ({"Action": "sqs:ReceiveMessage"}, False),
        ({"Principal": "*"}, True),
        ({"Principal": {"AWS": "*"}}, True),
        ({"Principal": {"Service": ["sns.amazonaws.com", "s3.amazonaws.com"]}}, True),
        ({"Principal": {"Service": "sns.amazonaws.com"}}, False),
        ({"Principal": {"AWS": "arn:aws:iam::1:root"}}, False),
        ({"Condition": {}}, True),
        ({"Condition": {"ArnLike": {"aws:SourceArn": "arn:aws:s3:*:*:photos"}}}, True),
        ({"Condition": {"ArnEquals": {"aws:SourceArn": ["arn:aws:s3:::x", "arn:aws:s3:::photos"]}}}, True),
        ({"Condition": {"ArnLike": {"AWS:SourceArn": "arn:aws:s3:::pho*"}}}, True),
        ({"Condition": {"ArnNotLike": {"aws:SourceArn": "arn:aws:s3:::photos"}}}, False),
        ({"Condition": {"Bool": {"aws:SecureTransport": "true"}}}, True),
        ({"Condition": {"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}}, False),
        ({"Resource": "*"}, True),
        ({"Effect": "Deny"}, False),
    ],
)
def test_statements_of_others(values, permitted):
    assert permits(changed(**values), "photos", ARN, ACCOUNT) is permitted


def test_a_statement_is_added_to_those_of_others_and_takes_the_place_of_its_own():
    theirs = {"Sid": "theirs", "Effect": "Deny", "Principal": "*", "Action": "sqs:*", "Resource": ARN}
    policy = {"Version": "2008-10-17", "Id": "x", "Statement": theirs}
    once = with_statement(policy, GOOD)
    assert once == {"Version": "2008-10-17", "Id": "x", "Statement": [theirs, GOOD]}
    assert with_statement(once, GOOD) == once
    assert denies(once)
    assert not denies(with_statement(None, GOOD))


def test_other_partitions_have_their_own_arns():
    statement = statement_for("photos", "arn:aws-cn:sqs:cn-north-1:1:events", "1")
    assert statement["Condition"]["ArnLike"] == {"aws:SourceArn": "arn:aws-cn:s3:::photos"}
