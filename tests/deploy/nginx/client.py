"""Calls a chat API with the official client, once per key, and prints what became of each call as a line of JSON."""

import json
import logging
import os
import re
import sys

import openai


class Waits(logging.Handler):
    """What the client says about its retries, in seconds."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def emit(self, record):
        match = re.search(r"Retrying request in ([0-9.]+) seconds", record.getMessage())
        if match:
            self.seen.append(float(match.group(1)))


def call(url, model, key):
    client = openai.OpenAI(base_url=url + "/v1", api_key=key)
    try:
        answer = client.chat.completions.create(model=model, messages=[{"role": "user", "content": "Hello"}])
        return {"content": answer.choices[0].message.content}
    except openai.APIStatusError as error:
        return {
            "error": type(error).__name__,
            "status": error.status_code,
            "code": error.code,
            "type": error.type,
            "request": len(error.request_id),
        }


os.environ["NO_PROXY"] = "127.0.0.1"
waits = Waits()
logger = logging.getLogger("openai")
logger.setLevel(logging.INFO)
logger.addHandler(waits)
url, model, *keys = sys.argv[1:]
for key in keys:
    waits.seen = []
    print(json.dumps(call(url, model, key) | {"waits": waits.seen}))
