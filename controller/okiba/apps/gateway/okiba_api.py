"""Okiba's own routes, for the administrator alone: what Lambda's API has no words for."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import partial
from typing import Any, Final

from fastapi import APIRouter, Request, Response

from okiba.apps.gateway import store_view
from okiba.apps.gateway.lambda_fields import constraint
from okiba.apps.gateway.okiba_fields import Attachments, attached, attachments, checked_bucket
from okiba.apps.gateway.services import ControlServices, answer_json, json_body, require_admin
from okiba.core.errors import InvalidParameter, NotFound
from okiba.core.function import Function, to_prepare
from okiba.core.layer import layer_of
from okiba.core.names import resolve
from okiba.core.payload import payload_bytes
from okiba.core.preparation import given_up
from okiba.core.sweeping import Ask, waiting
from okiba.flow.deploy import KUBERNETES
from okiba.ports import DeadLetter, LogChunk, Quarantined

ROOT: Final = "/okiba/v1"
MAX_WAIT_MS: Final = 20_000
MAX_LETTERS: Final = 100  # each may have a megabyte of event; a page leaves the events out


class OkibaApi:
    """The routes, one method each."""

    def __init__(self, services: ControlServices) -> None:
        self._services = services

    def router(self) -> APIRouter:
        """Where they are."""
        router = APIRouter(prefix=ROOT)
        router.add_api_route("/status", self.status, methods=["GET"])
        router.add_api_route("/functions/{name}", self.function, methods=["GET"])
        router.add_api_route("/functions/{name}/attachments", self.attach, methods=["PUT"])
        router.add_api_route("/functions/{name}/logs", self.logs, methods=["GET"])
        router.add_api_route("/functions/{name}/recent", self.recent, methods=["GET"])
        router.add_api_route("/functions/{name}/dead-letters", self.dead_letters, methods=["GET"])
        router.add_api_route("/functions/{name}/dead-letters/{letter}", self.dead_letter, methods=["GET"])
        router.add_api_route("/functions/{name}/dead-letters/{letter}", self.redrive, methods=["POST"])
        router.add_api_route("/functions/{name}/dead-letters/{letter}", self.purge, methods=["DELETE"])
        router.add_api_route("/functions/{name}/paused", self.pause, methods=["PUT"])
        router.add_api_route("/functions/{name}/paused", self.resume, methods=["DELETE"])
        router.add_api_route("/sweeps", self.sweeps, methods=["GET"])
        router.add_api_route("/sweeps/{bucket}", self.sweep, methods=["PUT"])
        router.add_api_route("/quarantine", self.quarantine, methods=["GET"])
        router.add_api_route("/store", self.store, methods=["GET"])
        router.add_api_route("/buckets/{bucket}", self.create_bucket, methods=["PUT"])
        return router

    async def status(self, request: Request) -> Response:
        """How everything is."""
        require_admin(request)
        return answer_json(await self._services.status())

    async def function(self, name: str, request: Request) -> Response:
        """A function's whole record, with how far its layer has come."""
        require_admin(request)
        return answer_json(await self._told(await self._services.existing(self._name(name))))

    async def attach(self, name: str, request: Request) -> Response:
        """Replaces bindings, statements and layer; the same ones again change nothing, unless they were refused."""
        require_admin(request)
        wanted = attachments(await json_body(request, "PutAttachments"))
        if wanted.managed_by == KUBERNETES:
            raise InvalidParameter(f"managed_by: {KUBERNETES!r} is for functions that Function objects describe")
        function = await self._services.edit(self._name(name), lambda present: self._attached(present, wanted))
        return answer_json(await self._told(function))

    async def logs(self, name: str, request: Request) -> Response:
        """Output behind `after`; waits up to `wait_ms` for some. Also of a function that is gone."""
        require_admin(request)
        query = request.query_params
        wait_ms = _whole(query, "wait_ms", 0, 0, MAX_WAIT_MS)
        chunks = await self._services.logs.read(self._name(name), query.get("after", ""), wait_ms)
        return answer_json({"chunks": [_chunk(chunk) for chunk in chunks]})

    async def recent(self, name: str, request: Request) -> Response:
        """The function's last hundred invocations in this gateway, oldest first; wall clock in ms."""
        require_admin(request)
        return answer_json({"invocations": list(self._services.recent(self._name(name)))})

    async def dead_letters(self, name: str, request: Request) -> Response:
        """Dead letters behind `after`, oldest first, without their events."""
        require_admin(request)
        query = request.query_params
        count = _whole(query, "count", MAX_LETTERS, 1, MAX_LETTERS)
        letters = await self._services.queue.dead_letters(self._name(name), query.get("after", ""), count)
        return answer_json({"dead_letters": [_letter(letter) for letter in letters]})

    async def dead_letter(self, name: str, letter: str, request: Request) -> Response:
        """One dead letter with its event, which is told as text: it is what the caller sent, byte for byte."""
        require_admin(request)
        found = await self._services.queue.dead_letter(self._name(name), letter)
        if found is None:
            raise NotFound(f"function {name} has no dead letter {letter[:64]}")
        event = await self._services.queue.payload(found.work)
        return answer_json({**_letter(found), "event": event.decode(errors="replace")})

    async def redrive(self, name: str, letter: str, request: Request) -> Response:
        """The dead letter's event is tried again from the beginning, as the same event with the same request id."""
        require_admin(request)
        function = await self._services.existing(self._name(name))
        if not await self._services.queue.redrive(function.name, letter, self._services.now_ms()):
            raise NotFound(f"function {name} has no dead letter {letter[:64]}")
        self._services.wake(function.name)
        return answer_json({"function": function.name, "redriven": letter})

    async def purge(self, name: str, letter: str, request: Request) -> Response:
        """The dead letter is gone for good."""
        require_admin(request)
        if not await self._services.queue.purge(self._name(name), letter):
            raise NotFound(f"function {name} has no dead letter {letter[:64]}")
        return answer_json({"function": self._name(name), "purged": letter})

    async def pause(self, name: str, request: Request) -> Response:
        """No more of the function's asynchronous events are begun: they wait."""
        return await self._paused(name, request, paused=True)

    async def resume(self, name: str, request: Request) -> Response:
        """They are begun again."""
        return await self._paused(name, request, paused=False)

    async def _paused(self, name: str, request: Request, *, paused: bool) -> Response:
        require_admin(request)
        change = partial(replace, paused=paused)
        function = await self._services.edit(self._name(name), change, whoevers=True)
        return answer_json({"function": function.name, "paused": function.paused})

    async def sweeps(self, request: Request) -> Response:
        """The newest sweep of each bucket, and the buckets that functions are bound to."""
        require_admin(request)
        sweeps, bound = self._services.sweeps, await self._services.bound_buckets()
        told = {**waiting(await sweeps.asked()), **await sweeps.told()}
        ever = await sweeps.found_ever()
        passes = [
            {"bucket": bucket, **asdict(progress), "ever": ever.get(bucket, 0)}
            for bucket, progress in sorted(told.items())
        ]
        return answer_json({"bound": bound, "sweeps": passes})

    async def sweep(self, bucket: str, request: Request) -> Response:
        """The bucket is looked through soon for what nobody announced; `existing`: also for what was there before."""
        require_admin(request)
        body = await json_body(request, "PutSweep")
        existing = body.get("existing", False)
        if not isinstance(existing, bool) or body.keys() - {"existing"}:
            raise InvalidParameter(f'expected {{"existing": true or false}}, got {str(body)[:100]}')
        if checked_bucket(bucket) not in await self._services.bound_buckets():
            raise NotFound(f"no function is bound to a bucket {bucket}")
        ask = Ask(existing, self._services.now_ms())
        await self._services.sweeps.ask(bucket, ask)
        return answer_json({"bucket": bucket, "asked_ms": ask.at_ms}, 202)

    async def quarantine(self, request: Request) -> Response:
        """The newest notifications that nobody could read."""
        require_admin(request)
        kept = await self._services.inbox.quarantined(_whole(request.query_params, "count", 100, 1, 1_000))
        return answer_json({"total": kept.total, "quarantined": [_quarantined(item) for item in kept.newest]})

    async def store(self, request: Request) -> Response:
        """Whether the object store announces to this Okiba, and what it has to be told so that it does."""
        require_admin(request)
        return answer_json(await store_view.view(self._services))

    async def create_bucket(self, bucket: str, request: Request) -> Response:
        """The bucket exists when this answers: 201 if it is new, 200 if it was there."""
        require_admin(request)
        created = await asyncio.to_thread(self._services.store.create_bucket, checked_bucket(bucket))
        return answer_json({"bucket": bucket, "created": created}, 201 if created else 200)

    def _name(self, reference: str) -> str:
        return resolve(reference, self._services.home).name

    def _attached(self, present: Function, wanted: Attachments) -> Function:
        """With these attachments; a new revision, and the controller's work, only if something is different.

        Or if the present one was refused: deploying the same again is how a user has it tried again.
        """
        changed = attached(present, wanted, self._services.now_ms())
        layer = None
        if wanted.requirements.strip():
            layer = layer_of(
                wanted.requirements, present.runtime, self._services.platform, allow_source=wanted.allow_source
            )
        changed = replace(changed, layer=layer)
        told = replace(present, warnings=wanted.warnings, managed_by=wanted.managed_by, origin=wanted.origin)
        if changed == told and not given_up(present):
            return told
        return to_prepare(replace(changed, last_modified_ms=self._services.now_ms()), str(uuid.uuid4()), present)

    async def _told(self, function: Function) -> dict[str, Any]:
        content = asdict(function)
        for name in ("access_key", "generation", "running"):
            del content[name]
        content["environment"] = sorted(function.environment)  # their values are GetFunction's to tell
        content["arn"] = self._services.home.arn(function.name)
        if function.layer is not None:
            content["layer"] = await self._layer(function.layer.hash, content["layer"])
        return content

    async def _layer(self, layer_hash: str, content: Mapping[str, Any]) -> dict[str, Any]:
        intent = await self._services.layer(layer_hash)
        if intent is None:
            return {**content, "phase": "unknown", "progress": "", "error": ""}
        return {**content, "phase": intent.phase.value, "progress": intent.progress, "error": intent.error}


def _chunk(chunk: LogChunk) -> dict[str, Any]:
    text = chunk.body.decode(errors="replace")
    return {"id": chunk.id, "slot": chunk.slot, "time_ms": chunk.time_ms, "dropped": chunk.dropped, "text": text}


def _letter(letter: DeadLetter) -> dict[str, Any]:
    work = letter.work
    return {
        "id": letter.id,
        "request_id": work.request_id,
        "event_id": work.event_id,
        "source": work.source,
        "accepted_ms": work.accepted_ms,
        "died_ms": letter.died_ms,
        "reason": letter.reason,
        "attempts": letter.attempts,
        "losses": letter.losses,
        "event_bytes": payload_bytes(work.payload),
        "error": _json_or_text(letter.error),
    }


def _quarantined(item: Quarantined) -> dict[str, Any]:
    content = asdict(item)
    return {**content, "body": item.body.decode(errors="replace")}


def _json_or_text(content: bytes) -> Any:
    try:
        return json.loads(content) if content else None
    except (ValueError, RecursionError):
        return content.decode(errors="replace")


def _whole(query: Mapping[str, str], name: str, default: int, minimum: int, maximum: int) -> int:
    text = query.get(name, str(default))
    if not text.isascii() or not text.isdigit() or not minimum <= int(text[:9]) <= maximum:
        raise constraint(text, name, f"be a whole number from {minimum} to {maximum}")
    return int(text[:9])
