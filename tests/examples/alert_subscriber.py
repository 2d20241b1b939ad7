"""A subscriber to alerts that handles each alert once, whatever happens in between (docs/alerts.md).

    pip install 'nats-py[nkeys]'
    python alert_subscriber.py nats://127.0.0.1:4222 mail handled.txt [count] [seed file]

The stream delivers every alert at least once. What was handled is noted by the alert's id, durably and before it is
acknowledged, so a repetition is recognized. With a seed it connects as one of the deployed services does, from an account
of its own. Prints a line of JSON for each delivery, and ends after `count` new alerts; 0: never.
"""

import asyncio
import json
import os
import sys

import nats
from nats.errors import TimeoutError as NoAnswer

STREAM = "TOLLBOOK_ALERTS"


async def main(url: str, name: str, path: str, count: int = 0, seed: str | None = None) -> None:
    if seed:
        # Its permissions allow this inbox alone; and JetStream is the ledger's, under another name.
        connection = await nats.connect(url, nkeys_seed=seed, inbox_prefix=f"_INBOX_{name}".encode())
        jetstream = connection.jetstream(prefix="ledger.api")
        inbox = f"_INBOX_{name}.".encode()
    else:
        connection = await nats.connect(url)
        jetstream = connection.jetstream()
        inbox = b"_INBOX."
    # The consumer that an engine made for the subscription.
    alerts = await jetstream.pull_subscribe_bind(consumer=name, stream=STREAM, inbox_prefix=inbox)
    new = 0
    # Ids of handled alerts, one on a line. A database would keep them beside what was done.
    with open(path, "a+", encoding="utf-8") as file:
        file.seek(0)
        handled = set(file.read().split())
        while count == 0 or new < count:
            try:
                messages = await alerts.fetch(1, timeout=5)
            except NoAnswer:
                continue
            for message in messages:
                alert = json.loads(message.data)
                repeated = alert["id"] in handled
                if not repeated:
                    # Here you would do what must be done once.
                    file.write(alert["id"] + "\n")
                    file.flush()
                    os.fsync(file.fileno())
                    handled.add(alert["id"])
                    new += 1
                said = {"id": alert["id"], "type": alert["type"], "subject": alert["subject"], "repeated": repeated}
                print(json.dumps(said), flush=True)
                try:
                    # The server says that it knows. Without its answer the alert comes again, and is recognized.
                    await message.ack_sync()
                except NoAnswer:
                    pass
    await connection.close()


if __name__ == "__main__":
    url, name, path, *rest = sys.argv[1:]
    asyncio.run(main(url, name, path, int(rest[0]) if rest else 0, rest[1] if len(rest) > 1 else None))
