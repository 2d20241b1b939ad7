"""What schemathesis cannot know from the document: which things there are, and what a schema cannot say.

The document is narrowed as it is loaded, so that generated requests get past "there is no such thing"; what is
generated is still generated, mutated and judged by schemathesis. `TOLLBOOK_KNOWN` names a file that holds, for each
schema of the document, values that exist on the server under test.
"""

import hashlib
import json
import os

import schemathesis

with open(os.environ["TOLLBOOK_KNOWN"]) as file:
    KNOWN = json.load(file)

# Names of the database that JSON Schema could only list; a release of it more or less changes nothing.
ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "Pacific/Apia"]


# The texts of allowlists have a grammar of their own.
ALLOWLISTS = ["", "203.0.113.4", "198.51.100.0/24, 203.0.113.4\n8.8.8.8"]


@schemathesis.hook
def before_load_schema(context, raw_schema):
    schemas = raw_schema["components"]["schemas"]
    existing = {}
    for name, values in KNOWN["schemas"].items():
        existing["#/components/schemas/" + name] = {"type": "string", "enum": values}
        # In bodies as many real ones as made-up ones, which are the rest of what the pattern allows.
        schemas[name] = {"anyOf": [{"type": "string", "enum": values}, dict(schemas[name])]}
    parameters = list(raw_schema["components"]["parameters"].values())
    for item in raw_schema["paths"].values():
        for operation in item.values():
            parameters.extend(one for one in operation.get("parameters", []) if "schema" in one)
    # In paths and headers only real ones: made-up ones are what comes from breaking the rule.
    for parameter in parameters:
        name = parameter["schema"].get("$ref")
        parameter["schema"] = existing.get(name, parameter["schema"])
    # Those that are erased, or verified less, are others than the first, to which everything else is done.
    others = {"type": "string", "enum": KNOWN["others"]}
    for path in ("/v1/organizations/{org}/contacts", "/v1/organizations/{org}/verification"):
        for operation in raw_schema["paths"][path].values():
            operation["parameters"][0]["schema"] = others
    token = schemas["Acceptance"]["properties"]["token"]
    invited = {"type": "string", "enum": KNOWN["invitations"]}
    schemas["Acceptance"]["properties"]["token"] = {"anyOf": [invited, token]}

    schemas["TimeZone"] = {"type": "string", "enum": ZONES}
    text = schemas["NewIpAllowlist"]["properties"]["text"]
    schemas["NewIpAllowlist"]["properties"]["text"] = {"anyOf": [{"type": "string", "enum": ALLOWLISTS}, text]}
    # Real days: a pattern does not know how long months are.
    schemas["DayOrTime"] = {
        "anyOf": [{"type": "string", "format": "date"}, {"$ref": "#/components/schemas/Time"}],
    }
    # The server under test has one partition.
    schemas["PartitionNumber"]["maximum"] = 0
    schemas["AuditPosition"]["pattern"] = "^(0-)?(0|[1-9][0-9]{0,18})$"
    # No usage may come from the future.
    schemas["UsageEvent"]["properties"]["time"] = {"enum": ["2026-11-20T10:00:00Z", None]}
    # A read waits for a position that is not there yet, and is then answered 503: tested elsewhere, and slow.
    waits_for = raw_schema["components"]["parameters"]["min_position"]
    waits_for["schema"] = {"type": "string", "enum": KNOWN["positions"]}


@schemathesis.hook
def filter_case(context, case):
    return not (waits(case) or in_other_scripts(case.body) or names_twice(case) or ends_what_is_needed(case))


def waits(case):
    """See `min_position` above: what comes of breaking its rule must not wait either."""
    position = str((case.query or {}).get("min_position", ""))
    return position not in KNOWN["positions"] and position.replace("-", "").isdigit()


def ends_what_is_needed(case):
    """The first project, member, key and token stay, so that requests find them."""
    last = case.path.rsplit("/", 1)[-1].strip("{}")
    return case.method == "DELETE" and str((case.path_parameters or {}).get(last)) in KNOWN["needed"]


def in_other_scripts(body):
    """JSON Schema counts characters, and the server bytes; that matters only for long texts of other scripts."""
    return any(not text.isascii() and len(text.encode(errors="replace")) > 64 for text in texts(body))


def texts(value):
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, member in value.items():
            yield name
            yield from texts(member)
    elif isinstance(value, list):
        for item in value:
            yield from texts(item)


def names_twice(case):
    """JSON Schema cannot say that models of prices, projects of an invitation, and tiers differ by their names."""
    body = case.body if isinstance(case.body, dict) else {}
    for items, name in (("models", "model"), ("projects", "project"), ("tiers", "name")):
        listed = body.get(items) if isinstance(body.get(items), list) else []
        names = [json.dumps(item.get(name)) for item in listed if isinstance(item, dict)]
        if len(names) > len(set(names)):
            return True
    return False


@schemathesis.hook
def map_case(context, case):
    if case.path.endswith("/v1/events"):
        case.body = as_usage(case.body)
    if case.path.endswith(("/limits/override", "/quantity-limits")):
        case.body = generous(case.body)
    if case.path.startswith("/v1/authorize"):
        # Without it everything is 503: a customer is not told that the gateway's own token is wrong.
        case.headers = {**(case.headers or {}), "Tollbook-Token": KNOWN["gateway"]}
    key = (case.headers or {}).get("Idempotency-Key")
    if isinstance(key, str) and 0 < len(key) <= 200 and key.isascii() and key.isprintable():
        # The same for the same request, another one for another: else nearly all answers would be 409.
        what = f"{case.method} {case.path} {case.path_parameters} {case.headers} {case.body!r}"
        case.headers["Idempotency-Key"] = key + hashlib.sha256(what.encode(errors="replace")).hexdigest()[:8]
    return case


def generous(limits):
    """So that projects and keys may be created afterwards."""
    if isinstance(limits, dict):
        return {name: generous(limit) for name, limit in limits.items()}
    return limits + 1000 if type(limits) is int and 0 <= limits < 1000 else limits


def as_usage(body):
    """A whole number has no point, though for JSON Schema 5.0 is 5, and cached input is part of the input."""
    body = pointless(body)
    for event in body if isinstance(body, list) else [body]:
        data = event.get("data") if isinstance(event, dict) else None
        if isinstance(data, dict) and at_odds(data):
            data["cached_input_tokens"] = 0
    return body


def at_odds(data):
    cached, whole = data.get("cached_input_tokens"), data.get("input_tokens")
    return type(cached) is int and type(whole) is int and cached > whole >= 0


def pointless(value):
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {name: pointless(member) for name, member in value.items()}
    if isinstance(value, list):
        return [pointless(item) for item in value]
    return value
