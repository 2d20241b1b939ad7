"""Asks about admission with the stock client, and prints what was answered, a line of JSON for each question."""

import asyncio
import json
import sys

import nats
from nats.errors import NoRespondersError


async def main(url: str, questions: str) -> None:
    connection = await nats.connect(url)
    with open(questions, encoding="utf-8") as file:
        lines = file.readlines()
    for line in lines:
        operation, body = json.loads(line)
        try:
            answer = await connection.request(f"tollbook.rpc.{operation}", json.dumps(body).encode(), timeout=30)
            print(json.dumps({"headers": answer.headers or {}, "body": json.loads(answer.data)}))
        except NoRespondersError as error:
            print(json.dumps({"error": type(error).__name__}))
    await connection.close()


asyncio.run(main(sys.argv[1], sys.argv[2]))
