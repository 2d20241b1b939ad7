"""Publishes files with the stock client's JetStream publish, and prints what came of each as a line of JSON."""

import asyncio
import json
import sys

import nats
from nats.js.errors import APIError, Error


async def main(url: str, subject: str, files: list[str]) -> None:
    connection = await nats.connect(url)
    jetstream = connection.jetstream(timeout=30)
    for name in files:
        with open(name, "rb") as file:
            payload = file.read()
        try:
            ack = await jetstream.publish(subject, payload)
            print(json.dumps({"stream": ack.stream, "seq": ack.seq}))
        except APIError as error:
            print(json.dumps({"error": type(error).__name__, "code": error.code, "err_code": error.err_code}))
        except Error as error:
            print(json.dumps({"error": type(error).__name__}))
    await connection.close()


asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3:]))
