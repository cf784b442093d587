"""`dpiqa watches`: a watch is added, its events are checked, set up and tested, and it is removed."""

import json

from support.photos import png
from support.processes import wait_for

from dpiqa.addresses import probe_id

WAIT = ("--probe-seconds", "20")


def parsed(result, code=0):
    assert result.exit_code == code, result.stdout + result.stderr
    return json.loads(result.stdout)


def verdicts(document):
    return {check["part"]: check["verdict"] for check in document["checks"]}


def of(document, part):
    return next(check for check in document["checks"] if check["part"] == part)


def notification(s3):
    answer = s3.client.get_bucket_notification_configuration(Bucket=s3.name)
    return {name: value for name, value in answer.items() if name != "ResponseMetadata"}


def test_a_watch_that_is_set_up_gets_its_events(run, system, listener):
    system.put("in/old.png", png(0.2))
    first = parsed(run("watches", "add", f"s3://{system.name}/in/", "--configure", "--yes", "--json", *WAIT))
    assert verdicts(first) == {"creations": "ok", "removals": "ok", "queue policy": "ok", "probe": "ok"}
    assert "by the queue" in of(first, "probe")["message"]
    assert first["documents"] == {"notification": None, "queue_policy": None}
    (rule,) = notification(system)["QueueConfigurations"]
    assert rule["Id"] == "dpiqa in/"
    assert system.keys() == ["in/old.png"]  # the probe is gone
    system.put("in/new.png", png(0.2))
    wait_for(lambda: parsed(run("watches", "list", "--json"))[0]["events"] == 1, 20)
    again = parsed(run("watches", "add", f"s3://{system.name}/in/", "--no-probe", "--json"))
    assert (again["id"], again["backfill_job_id"]) == (first["id"], first["backfill_job_id"])
    assert verdicts(again) == {"creations": "ok", "removals": "ok", "queue policy": "ok"}
    (shown,) = parsed(run("watches", "list", "--json"))
    assert (shown["id"], shown["last_event_via"]) == (first["id"], "queue")
    assert not {"cursor", "request_hash", "listing_lease_until"} & shown.keys()
    words = run("watches", "show", f"s3://{system.name}/in/").stdout
    assert "creation and removal arrived" in words
    assert "listing 0/0" in words
    items = parsed(run("items", first["id"], "--json"))
    assert [item["key"] for item in items] == ["in/new.png"]
    assert all(probe_id(item["key"]) is None for item in items)


def test_without_configure_the_documents_are_printed_and_nothing_is_changed(run, system, queue):
    before = notification(system)
    result = run("watches", "add", f"s3://{system.name}/in/", "--no-probe")
    assert result.exit_code == 1
    assert "does not announce s3:ObjectCreated:*" in result.stdout
    assert f"aws s3api put-bucket-notification-configuration --endpoint-url {system.endpoint}" in result.stdout
    assert '"sqs:ReceiveMessage"' in result.stdout
    assert notification(system) == before
    assert len(parsed(run("watches", "list", "--json"))) == 1
    result = run("watches", "check", f"s3://{system.name}/in/", "--configure", "--no-probe")
    assert "nothing was changed" in result.stderr  # there is no terminal to answer
    assert notification(system) == before


def test_the_rules_and_statements_of_others_stay(run, system, queue):
    other = system.sqs.create_queue(QueueName=f"{system.name}-other")["QueueUrl"]
    arn = system.sqs.get_queue_attributes(QueueUrl=other, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    theirs = {"Id": "theirs", "QueueArn": arn, "Events": ["s3:ObjectCreated:*"]}
    theirs["Filter"] = {"Key": {"FilterRules": [{"Name": "prefix", "Value": "logs/"}]}}
    system.client.put_bucket_notification_configuration(
        Bucket=system.name, NotificationConfiguration={"QueueConfigurations": [theirs]}
    )
    statement = {"Sid": "theirs", "Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::123456789012:root"}}
    statement |= {"Action": "sqs:*", "Resource": "*"}
    policy = {"Version": "2012-10-17", "Statement": [statement]}
    system.sqs.set_queue_attributes(QueueUrl=queue, Attributes={"Policy": json.dumps(policy)})
    address = f"s3://{system.name}/in/"
    report = parsed(run("watches", "add", address, "--no-probe", "--json"), 1)
    assert verdicts(report) == {"creations": "failed", "removals": "failed", "queue policy": "failed"}
    report = parsed(run("watches", "add", address, "--no-probe", "--configure", "-y", "--json"))
    assert set(verdicts(report).values()) == {"ok"}
    assert [rule["Id"] for rule in notification(system)["QueueConfigurations"]] == ["theirs", "dpiqa in/"]
    answer = system.sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["Policy"])["Attributes"]["Policy"]
    assert [s["Sid"] for s in json.loads(answer)["Statement"]] == ["theirs", f"dpiqa{system.name.replace('-', '')}"]
    report = parsed(run("watches", "add", f"s3://{system.name}/", "--no-probe", "--json", "--configure", "-y"), 1)
    assert "rule theirs (logs/*" in of(report, "notification")["message"]
    assert len(notification(system)["QueueConfigurations"]) == 2


def test_an_event_that_does_not_come_is_explained(run, system, queue):
    address = f"s3://{system.name}/in/"
    report = parsed(run("watches", "add", address, "--json", "--configure", "-y", "--probe-seconds", "0.5"), 1)
    assert "no listener is connected" in of(report, "probe")["message"]
    assert of(report, "probe")["hint"] == "start `dpiqa listen`"
    assert system.keys() == []


def test_events_over_http_are_recognised(run, system, queue, monkeypatch):
    monkeypatch.delenv("DPIQA_QUEUE_URL")
    report = parsed(run("watches", "add", f"s3://{system.name}/in/", "--json", "--probe-seconds", "0.2"), 1)
    assert "no queue is configured" in of(report, "probe")["message"]
    arn = "arn:aws:sqs:us-east-1:123456789012:" + queue.rpartition("/")[2]
    report = parsed(
        run(
            "watches",
            "check",
            f"s3://{system.name}/in/",
            "--target-arn",
            arn,
            "--configure",
            "-y",
            "--no-probe",
            "--json",
        )
    )
    assert verdicts(report) == {"creations": "ok", "removals": "ok"}


def test_a_removed_watch_keeps_its_scores_and_its_events_start_no_other(run, system, listener, scored):
    address = f"s3://{system.name}/k/"
    watch = parsed(run("watches", "add", address, "--configure", "-y", "--no-backfill", "--json", *WAIT))
    assert watch["backfill_job_id"] is None
    assert run("watches", "remove", address).exit_code == 0
    system.put("k/more.png", png(0.2))
    assert run("watches", "remove", address).exit_code == 4
    assert run("watches", "remove", watch["id"][:8]).exit_code == 0  # idempotent
    assert parsed(run("watches", "list", "--json")) == []
    assert [row["state"] for row in parsed(run("watches", "list", "--ended", "--json"))] == ["cancelled"]
    assert len(parsed(run("scores", "--json"))) == 1100
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    read = system.sqs.get_queue_attributes
    wait_for(
        lambda: not sum(int(v) for v in read(QueueUrl=system.queue_url, AttributeNames=names)["Attributes"].values()),
        20,
    )
    assert parsed(run("watches", "list", "--json")) == []
    added = parsed(run("watches", "add", address, "--no-probe", "--json"))
    assert added["id"] != watch["id"]


def test_wrong_names_and_intervals(run, system, queue):
    assert run("watches", "add", "s3://no-such-bucket-here/x").exit_code == 78
    assert run("watches", "add", "photos/in").exit_code == 2
    assert run("watches", "show", f"s3://{system.name}/in/").exit_code == 4
    assert run("watches", "add", f"s3://{system.name}/", "--reconcile-every", "5 days").exit_code == 2
    assert parsed(run("watches", "list", "--json")) == []
    parsed(run("watches", "add", f"s3://{system.name}/", "--no-probe", "--reconcile-every", "12h", "--json"), 1)
    (watch,) = parsed(run("watches", "list", "--json"))
    assert watch["reconcile_seconds"] == 43200
    assert watch["reconcile_due_at"] is not None
    parsed(run("watches", "add", f"s3://{system.name}/", "--no-probe", "--reconcile-every", "never", "--json"), 1)
    assert parsed(run("watches", "list", "--json"))[0]["reconcile_due_at"] is None
