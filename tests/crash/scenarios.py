# SPDX-License-Identifier: Apache-2.0
"""
What a queue goes through, one scenario each. `prepare` brings the gateway to its beginning, undisturbed; `act` is what
is disturbed: it ends when all is done and written, or with the process. Each turn has a token of its own.
"""
import time

from books import DOMAINS, Client, Refused, send_one
from rig.gateway import wait_until

THREE = [f"u@{domain}" for domain in DOMAINS]
# done a minute later, or when it is released again
POSTPONED = (("delivery.deferred", "the failure could not be written; it is tried again"),
             ("delivery.deferred", "what its flow decided could not be written; it runs again"),
             ("daemon.warning", "what was done in a quarantine may be undone by a crash"),
             ("quarantine.problem", "its content flow runs again in a minute"),
             ("message.deferred", None), ("quarantine.unreadable", None))  # its body could not be opened
WRITTEN = 0.12  # results are written within 50 ms


def try_to_send(books, gateway, size, recipients, bdat=False, token=None):
    """The code of the refusal, 250, or 0: hung up."""
    try:
        client = Client(gateway.port)
        try:
            send_one(books, client, size, recipients, bdat, token)
            return 250
        finally:
            client.close()
    except Refused as refused:
        return refused.code
    except (OSError, EOFError, ValueError):
        return 0


def is_dead(gateway, pid):
    return gateway.process.poll() is not None or gateway.child_pid() != pid


class Turn:
    """One turn of a scenario on a running gateway."""

    def __init__(self, gateway, books, sinks):
        self.gateway, self.books, self.sinks = gateway, books, sinks
        self.pid = gateway.child_pid()
        self.token = books.new_token()
        self.postponed = self.count_postponed()

    def count_postponed(self):
        return sum(len(self.gateway.seen(event, detail=detail)) for event, detail in POSTPONED)

    def is_over(self, condition):
        """Wait for it; false: the process is dead. An error may have put it off for a minute."""
        wait_until(lambda: condition() or is_dead(self.gateway, self.pid) or self.count_postponed() > self.postponed,
                   "it is done, or dead")
        time.sleep(WRITTEN)
        return not is_dead(self.gateway, self.pid)

    def send(self, size, to, bdat=False, token=None):
        code = try_to_send(self.books, self.gateway, size, to, bdat, token or self.token)
        if code == 0:
            wait_until(lambda: is_dead(self.gateway, self.pid), "it hung up, so it is dead")
        return code

    def queue_it(self, to):
        """It is taken, and its first attempt is over."""
        tried = sum(sink.attempts for sink in self.sinks)
        assert self.send(3000, to) == 250
        wait_until(lambda: sum(sink.attempts for sink in self.sinks) > tried, "it is tried")
        time.sleep(WRITTEN)

    def operate(self, *words):
        """An order for its message; the process may die of it."""
        self.gateway.ctl("queue", *words, self.books.acknowledged[self.token][1], ok=range(256))


class Scenario:
    """A message that is taken and delivered."""
    options = {}
    size, to, bdat = 3000, THREE[:1], False
    fails_syncs = False
    only_some = 10  # of its calls in the quick tier; 0: all

    def set_up(self, sinks):
        for sink in sinks:
            sink.delay, sink.refuse, sink.answer = 0.0, 0.0, None

    def prepare(self, turn):
        pass

    def act(self, turn):
        """The code of the answer; 250 in an undisturbed turn."""
        code = turn.send(self.size, self.to, self.bdat)
        if code == 250:
            turn.is_over(lambda: all((turn.token, to) in turn.books.arrived for to in self.to))
        return code

    def after(self, turn):
        """The gateway runs again, undisturbed: let go what the scenario keeps back."""


class Data(Scenario):
    only_some = 24


class Bdat(Scenario):
    bdat = True


class Large(Scenario):
    """A body in a file of its own."""
    size = 400_000


class Destinations(Scenario):
    to = THREE


class Roll(Scenario):
    """The log file is full before the last body is."""
    options = {"more": "workers: 1\nspool: { path: spool, segment_size: 1M }"}
    only_some = 6

    def act(self, turn):
        tokens = [turn.token] + [turn.books.new_token() for _ in range(6)]
        for token in tokens:
            code = turn.send(200_000, self.to, False, token)
            if code != 250:
                return code
        turn.is_over(lambda: all((token, self.to[0]) in turn.books.arrived for token in tokens))
        return 250


class Deferred(Scenario):
    """451 at first, taken at the second attempt."""
    only_some = 6

    def set_up(self, sinks):
        super().set_up(sinks)
        seen = set()

        def answer(token):
            if token in seen:
                return None
            seen.add(token)
            return b"451 4.3.0 not now\r\n"
        sinks[0].answer = answer


class Notified(Scenario):
    """One of two recipients fails: his sender is told."""
    to = THREE[:2]
    only_some = 8

    def set_up(self, sinks):
        super().set_up(sinks)
        sinks[1].answer = lambda token: b"550 5.1.1 nobody\r\n"

    def act(self, turn):
        code = turn.send(self.size, self.to)
        if code == 250:
            turn.is_over(lambda: (turn.token, self.to[0]) in turn.books.arrived and turn.token in turn.books.notices)
        return code


class Expired(Scenario):
    """Its time is over before anybody took it."""
    to = THREE[2:]
    options = {"expire": "1s"}
    only_some = 3

    def set_up(self, sinks):
        super().set_up(sinks)
        sinks[2].answer = lambda token: b"451 4.3.0 not now\r\n"

    def act(self, turn):
        code = turn.send(self.size, self.to)
        if code == 250:
            turn.is_over(lambda: turn.token in turn.books.notices)
        return code


class Operated(Scenario):
    """Queued and deferred; then an operator's orders are what is disturbed."""
    options = {"retry": "1h"}
    orders = ()
    only_some = 4

    def set_up(self, sinks):
        super().set_up(sinks)
        self.taken = False
        sinks[0].answer = lambda token: None if self.taken else b"451 4.3.0 not now\r\n"

    def prepare(self, turn):
        self.taken = False
        turn.queue_it(self.to)
        self.taken = True

    def done(self, turn):
        return True

    def act(self, turn):
        for order in self.orders:
            turn.operate(*order)
        turn.is_over(lambda: self.done(turn))
        return 250

    def after(self, turn):
        self.taken = True
        for item in turn.gateway.queue():
            if item["state"] == "held":
                turn.gateway.ctl("queue", "release", item["message"], ok=(0, 1))
        turn.gateway.ctl("queue", "retry", "--limit", "1000", "--reason", "test", ok=(0, 1))


class Held(Operated):
    orders = [("hold", "--reason", "test")]


class Released(Operated):
    """Held, let go, and tried again."""
    orders = [("release",), ("retry",)]

    def prepare(self, turn):
        super().prepare(turn)
        turn.operate("hold", "--reason", "test")
        wait_until(lambda: [item for item in turn.gateway.queue() if item["state"] == "held"], "it is held")
        time.sleep(WRITTEN)

    def done(self, turn):
        return (turn.token, self.to[0]) in turn.books.arrived


class Failed(Operated):
    orders = [("fail", "--reason", "test")]

    def done(self, turn):
        return turn.token in turn.books.notices


class Dropped(Operated):
    orders = [("drop", "--reason", "test")]

    def prepare(self, turn):
        super().prepare(turn)
        turn.books.dropped.add(turn.token)

    def done(self, turn):
        return not turn.gateway.ctl_json("queue", "list", ok=range(256))


class Quarantined(Scenario):
    """Put aside, encrypted, in the unit that it is accepted with; released, and delivered."""
    size = 3000
    options = {"more": "workers: 1\nquarantines: { spam: { keep: 30d } }", "content": "quarantine: spam"}
    only_some = 14

    def release(self, turn, to, *words):
        """Ordered again when it was the order that failed, and said so; false: the process is dead."""
        message = turn.books.acknowledged[turn.token][1]

        def is_taken():
            return turn.gateway.run_ctl("quarantine", "release", message, *words).returncode == 0 or \
                (turn.token, to) in turn.books.arrived or is_dead(turn.gateway, turn.pid)
        wait_until(is_taken, "it is released")
        return turn.is_over(lambda: (turn.token, to) in turn.books.arrived)

    def act(self, turn):
        code = turn.send(self.size, self.to)
        if code == 250:
            self.release(turn, self.to[0])
        return code

    def after(self, turn):
        turn.gateway.ctl("quarantine", "release", "--all", ok=(0, 1))


class QuarantinedLarge(Quarantined):
    """Its body is in a file of its own, twice: as it came, and encrypted."""
    size = 400_000
    only_some = 14


class QuarantinedInPart(Quarantined):
    """Released for one of two recipients, then for the other."""
    to = [f"{name}@{DOMAINS[0]}" for name in "uv"]
    only_some = 14

    def act(self, turn):
        code = turn.send(self.size, self.to)
        for to in self.to:
            if code == 250 and not self.release(turn, to, "--to", to):
                break
        return code


class Unsynced(Scenario):
    """A sync fails in it: the client is refused, the next one is taken."""
    fails_syncs = True
    only_some = 6

    def act(self, turn):
        turn.gateway.fail_syncs(1)
        code = turn.send(self.size, self.to)
        turn.gateway.fail_syncs(0)
        assert code in (0, 250, 451, 452), code  # the sync may have been that of a log file made ahead
        while code and turn.token not in turn.books.acknowledged:
            turn.token = turn.books.new_token()
            code = turn.send(self.size, self.to)
        if code:
            turn.is_over(lambda: (turn.token, self.to[0]) in turn.books.arrived)
        return code


ALL = [Data, Bdat, Large, Destinations, Roll, Deferred, Notified, Expired, Held, Released, Failed, Dropped, Quarantined, QuarantinedLarge,
       QuarantinedInPart, Unsynced]
