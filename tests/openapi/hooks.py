"""What schemathesis cannot know from the document: which things there are, and what a schema cannot say.

The document is narrowed as it is loaded, so that generated requests get past "there is no such thing"; what is
generated is still generated, mutated and judged by schemathesis. `TOLLBOOK_KNOWN` names a file that holds, for each
schema of the document, values that exist on the server under test.
"""

import json
import os

import schemathesis

with open(os.environ["TOLLBOOK_KNOWN"]) as file:
    KNOWN = json.load(file)

# Names of the database that JSON Schema could only list; a release of it more or less changes nothing.
ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "Pacific/Apia"]


@schemathesis.hook
def before_load_schema(context, raw_schema):
    schemas = raw_schema["components"]["schemas"]
    for name, values in KNOWN["schemas"].items():
        # As many real ones as made-up ones, which are the rest of what the pattern allows.
        plain = dict(schemas[name])
        schemas[name] = {"anyOf": [{"type": "string", "enum": values}, plain]}
    schemas["TimeZone"] = {"type": "string", "enum": ZONES}
    # Real days: a pattern does not know how long months are.
    schemas["DayOrTime"] = {
        "anyOf": [{"type": "string", "format": "date"}, {"$ref": "#/components/schemas/Time"}],
    }
    # The server under test has one partition.
    schemas["PartitionNumber"]["maximum"] = 0
    # No usage may come from the future.
    schemas["UsageEvent"]["properties"]["time"] = {"type": "string", "enum": ["2026-11-20T10:00:00Z"]}
    # A read waits for a position that is not there yet, and is then answered 503: tested elsewhere, and slow.
    waits_for = raw_schema["components"]["parameters"]["min_position"]
    waits_for["schema"] = {"type": "string", "enum": KNOWN["positions"]}


@schemathesis.hook
def filter_query(context, query):
    """See `min_position` above: mutations of it must not wait either."""
    position = str((query or {}).get("min_position", ""))
    return position in KNOWN["positions"] or not position.replace("-", "").isdigit()


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


@schemathesis.hook
def filter_body(context, body):
    """JSON Schema counts characters, and the server bytes; that matters only for long texts of other scripts."""
    return not any(len(text) > 64 and len(text.encode(errors="replace")) > 128 for text in texts(body))


@schemathesis.hook("filter_body").apply_to(operation_id="publishPrices")
def each_model_once(context, body):
    """JSON Schema cannot say that models' names differ."""
    models = body.get("models") if isinstance(body, dict) else None
    if not isinstance(models, list):
        return True
    names = [model.get("model") for model in models if isinstance(model, dict)]
    return len(names) == len({json.dumps(name) for name in names})
