"""Backups of a stack's stores while they run, and a new stack that starts from them.

The programs are those that docs/operations.md names. JetStream is asked as the `nats` command asks it:
`$JS.API.STREAM.SNAPSHOT` sends chunks to a subject, each acknowledged, and an empty one at the end;
`$JS.API.STREAM.RESTORE` names a subject that takes them back in the same way.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import nats
from nats.aio.client import Client

from local.discovery import RunningStack
from local.servers import binaries
from local.servers.nats import Nats
from local.servers.postgres import Postgres
from services.kit.streams import STREAMS

ANSWER_S = 10.0
CHUNK_BYTES = 128 * 1024


async def back_up(running: RunningStack, into: Path, meanwhile: Callable[[], Awaitable[object]]) -> None:
    """Copies what the three stores hold, and the keys, without stopping anything.

    `meanwhile` happens between JetStream and Redis: what JetStream lacks, the outbox in Redis still has.
    """
    into.mkdir()
    data = Path(running.data)
    _run(["pg_dump", "--format=custom", f"--file={into / 'postgres.dump'}", running.postgres_url])
    nc = await nats.connect(running.nats_url)
    try:
        for stream in STREAMS:
            await _snapshot(nc, stream.name, into / f"{stream.name}.snapshot")
    finally:
        await nc.close()
    await meanwhile()
    # Synced at every write and only appended to: a copy is whole up to its last command.
    shutil.copy(data / "redis" / "appendonly.aof", into / "appendonly.aof")
    shutil.copytree(data / "keys", into / "keys")


async def restore(backup: Path, data: Path, *, with_redis: bool) -> None:
    """Lays a stack's data folder out from a backup. What starts there finds it as it was."""
    shutil.copytree(backup / "keys", data / "keys")
    if with_redis:
        (data / "redis").mkdir()
        shutil.copy(backup / "appendonly.aof", data / "redis" / "appendonly.aof")
    postgres, server = Postgres(data), Nats(data)
    for each in (postgres, server):
        await each.up()
    try:
        _run(
            [
                "pg_restore",
                "--no-owner",
                "--no-privileges",
                "--exit-on-error",
                f"--dbname={postgres.url}",
                str(backup / "postgres.dump"),
            ]
        )
        nc = await nats.connect(server.url)
        try:
            for stream in STREAMS:
                await _give_back(nc, stream.name, backup / f"{stream.name}.snapshot")
        finally:
            await nc.close()
    finally:
        for each in (postgres, server):
            each.stop()


async def _snapshot(nc: Client, stream: str, file: Path) -> None:
    inbox = nc.new_inbox()
    chunks = await nc.subscribe(inbox)
    asked = {"deliver_subject": inbox, "no_consumers": False, "chunk_size": CHUNK_BYTES}
    answer = await _asked(nc, f"$JS.API.STREAM.SNAPSHOT.{stream}", asked)
    file.with_suffix(".json").write_text(json.dumps({key: answer[key] for key in ("config", "state")}))
    with file.open("wb") as snapshot:
        while True:
            chunk = await chunks.next_msg(ANSWER_S)
            if not chunk.data:
                break
            snapshot.write(chunk.data)
            if chunk.reply:
                # Some chunks ahead the server waits for those before to be taken.
                await chunk.respond(b"")
    await chunks.unsubscribe()


async def _give_back(nc: Client, stream: str, file: Path) -> None:
    description = json.loads(file.with_suffix(".json").read_text())
    answer = await _asked(nc, f"$JS.API.STREAM.RESTORE.{stream}", description)
    with file.open("rb") as snapshot:
        while chunk := snapshot.read(CHUNK_BYTES):
            await nc.request(answer["deliver_subject"], chunk, timeout=ANSWER_S)
    ended = json.loads((await nc.request(answer["deliver_subject"], b"", timeout=ANSWER_S)).data)
    assert "error" not in ended, ended


async def _asked(nc: Client, subject: str, request: dict[str, Any]) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(
        (await nc.request(subject, json.dumps(request).encode(), timeout=ANSWER_S)).data
    )
    assert "error" not in answer, answer
    return answer


def _run(command: Sequence[str]) -> None:
    program, *arguments = command
    variables = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    ended = subprocess.run(
        [str(binaries.postgres(program)), *arguments],
        env=variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
