"""Policies of SQS queues: whether S3 may send a bucket's events, and the policy that would permit it. Pure."""

import copy
import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

Document = Mapping[str, Any]
_ARN_OPERATORS = ("ArnLike", "ArnEquals", "StringLike", "StringEquals")
_S3 = "s3.amazonaws.com"


def bucket_arn(bucket: str, queue_arn: str) -> str:
    """Return the ARN of a bucket in the partition (`aws`, `aws-cn`) of the queue."""
    return f"arn:{_part(queue_arn, 1) or 'aws'}:s3:::{bucket}"


def account_of(queue_arn: str) -> str:
    """Return the account that owns the queue."""
    return _part(queue_arn, 4)


def permits(policy: Document | None, bucket: str, queue_arn: str, account: str) -> bool:
    """Return whether a statement lets S3 send the events of this bucket, which belongs to `account`, to the queue.

    Statements that deny are not evaluated: see `denies`.
    """
    statements = _list((policy or {}).get("Statement"))
    return any(
        statement.get("Effect") == "Allow"
        and _is_of_s3(statement)
        and _has_conditions_of(statement.get("Condition", {}), bucket_arn(bucket, queue_arn), account)
        and any(fnmatchcase(queue_arn, pattern) for pattern in _list(statement.get("Resource")))
        for statement in statements
    )


def denies(policy: Document | None) -> bool:
    """Return whether a statement forbids somebody to send: whom, its conditions say."""
    return any(
        statement.get("Effect") == "Deny" and _sends(statement) for statement in _list((policy or {}).get("Statement"))
    )


def statement_for(bucket: str, queue_arn: str, account: str) -> dict[str, Any]:
    """Return the statement that lets S3 send the events of one bucket of one account, and nothing else."""
    return {
        "Sid": f"dpiqa{re.sub('[^A-Za-z0-9]', '', bucket)}",
        "Effect": "Allow",
        "Principal": {"Service": _S3},
        "Action": "sqs:SendMessage",
        "Resource": queue_arn,
        "Condition": {
            "ArnLike": {"aws:SourceArn": bucket_arn(bucket, queue_arn)},
            "StringEquals": {"aws:SourceAccount": account},
        },
    }


def with_statement(policy: Document | None, statement: Document) -> dict[str, Any]:
    """Return the policy with the statement; one with the same id gives way, all others stay."""
    made = copy.deepcopy(dict(policy or {"Version": "2012-10-17"}))
    others = [other for other in _list(made.get("Statement")) if other.get("Sid") != statement["Sid"]]
    made["Statement"] = [*others, dict(statement)]
    return made


def _is_of_s3(statement: Document) -> bool:
    principal = statement.get("Principal")
    services = _list(principal.get("Service")) if isinstance(principal, Mapping) else []
    is_everybody = principal == "*" or (isinstance(principal, Mapping) and "*" in _list(principal.get("AWS")))
    return (_S3 in services or is_everybody) and _sends(statement)


def _sends(statement: Document) -> bool:
    actions = [action.lower() for action in _list(statement.get("Action"))]
    return any(fnmatchcase("sqs:sendmessage", action) for action in actions)


def _has_conditions_of(conditions: Document, arn: str, account: str) -> bool:
    """Return whether events of the bucket fulfil the conditions. One that is not known counts as not fulfilled."""
    for operator, keys in conditions.items():
        for key, values in keys.items():
            name = key.lower()
            if name == "aws:sourcearn" and operator in _ARN_OPERATORS:
                fulfilled = any(fnmatchcase(arn, value) or _is_any_arn(value, arn) for value in _list(values))
            elif name == "aws:sourceaccount" and operator in ("StringEquals", "StringLike"):
                fulfilled = any(fnmatchcase(account, value) for value in _list(values))
            else:
                fulfilled = name == "aws:securetransport"
            if not fulfilled:
                return False
    return True


def _is_any_arn(pattern: str, arn: str) -> bool:
    """Return whether a pattern such as `arn:aws:s3:*:*:bucket` matches: a bucket's ARN has no region and no account."""
    parts, own = pattern.split(":", 5), arn.split(":", 5)
    return len(parts) == len(own) == 6 and all(map(fnmatchcase, own, parts))


def _list(value: Any) -> list[Any]:
    """Return the elements of what JSON policies write as a list or as its only element."""
    if value is None:
        return []
    return list(value) if isinstance(value, list) else [value]


def _part(arn: str, number: int) -> str:
    parts = arn.split(":")
    return parts[number] if len(parts) > number else ""
