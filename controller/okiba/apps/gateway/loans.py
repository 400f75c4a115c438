"""Slots that gateways lend each other, on their way: with answers, and by what is said once a second."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from typing import Final

from okiba.adapters.fleet_wire import slot_of
from okiba.adapters.peer_http import PeerLink
from okiba.core.function import Function
from okiba.core.membership import Roll
from okiba.flow.lend import LendingScaler, Loan

HEADER: Final = b"okiba-loan"
SAY_S: Final = 1.0


class Loans:
    """The loans of this gateway, both ways."""

    def __init__(self, scaler: LendingScaler, peers: PeerLink, roll: Roll) -> None:
        self._scaler = scaler
        self._peers = peers
        self._roll = roll
        scaler.on_recall = peers.recall
        scaler.on_return = peers.returned

    def offer(self, name: str, borrower: str) -> tuple[bytes, bytes] | None:
        """The header that lends the neighbour a slot, if it is to have one."""
        member = self._roll.living.get(borrower)
        if member is None or member.leaving or self._roll.me.leaving:
            return None
        loan = self._scaler.lend(name, borrower)
        return (HEADER, json.dumps({"slot": asdict(loan.slot), "epoch": loan.epoch}).encode()) if loan else None

    def accept(self, function: Function, lender: str, header: bytes) -> None:
        """A slot came with an answer."""
        told = json.loads(header)
        loan = Loan(slot_of(told["slot"]), int(told["epoch"]))
        if self._roll.me.leaving:
            self._peers.returned(lender, loan.slot.id)
        else:
            self._scaler.borrow(function, lender, loan)

    async def run(self) -> None:
        """Says what is borrowed, and takes back what is over; runs for ever."""
        while True:
            await asyncio.sleep(SAY_S)
            self._scaler.look_after_loans(self._roll.living)
            for lender, slots in self._scaler.borrowing().items():
                self._peers.borrowing(lender, slots)
