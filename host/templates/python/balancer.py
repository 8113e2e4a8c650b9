"""A share of the clients goes to the endpoints labelled `track=canary`, everybody else by weight to the others.

The setting `canary-share` says how many: a whole percentage, `10%` unless the Service has the annotation
`pointsman.dev/balancer.canary-share`. A client that got a canary gets one again, since its address decides. Where one side has
nobody to serve, the other side serves all.

`wit/policy.wit` says when each function is called. `componentize-py -d wit -w balancer-component bindings .` writes the modules
that are imported here, for an editor; the build makes its own.
"""

import json
import re
from bisect import bisect_right

from componentize_py_types import Err
from wit_world.exports import Balancer as Contract
from wit_world.exports import Lifecycle as LifecycleContract
from wit_world.exports.lifecycle import Description
from wit_world.imports.types import Conditions

READY = Conditions.READY
SERVES_STILL = Conditions.SERVING | Conditions.TERMINATING


class Lifecycle(LifecycleContract):
    def describe(self):
        return Description(name="{{name}}", version="0.1.0", summary="{{summary}}")

    def configure(self, place, node, settings):
        """To refuse, here and in `plan`: raise `Err` with a sentence."""


# Worker: the plans, by Service port and candidate set.
plans = {}


class Balancer(Contract):
    def plan(self, port, members):
        settings = {setting.key: setting.value for setting in port.settings}
        share = percentage(settings.get("canary-share", "10%"))
        # Sorted by key, so that a plan does not depend on who listed the endpoints.
        members = sorted(available([member for member in members if member.weight > 0]), key=lambda member: member.key)
        canaries = group(member for member in members if is_canary(member))
        stable = group(member for member in members if not is_canary(member))
        return json.dumps([share, canaries, stable]).encode()

    def adopt(self, service, set, data):
        plans.setdefault(service, {})[set] = json.loads(data)

    def pick(self, connection, set):
        plan = plans.get(connection.service, {}).get(set)
        if plan is None:
            return None
        share, canaries, stable = plan
        canary = connection.client_hash % 100 < share
        first, other = (canaries, stable) if canary else (stable, canaries)
        slot = draw(first, connection.random)
        return draw(other, connection.random) if slot is None else slot

    def forget(self, service):
        plans.pop(service, None)


def available(members):
    """The ready ones; where nobody is, those that still serve while they terminate."""
    ready = [member for member in members if READY in member.conditions]
    return ready or [member for member in members if SERVES_STILL in member.conditions]


def is_canary(member):
    return any(label.key == "track" and label.value == "canary" for label in member.labels)


def group(members):
    """Endpoints to draw from: the sums of the weights up to and with each, and the slots."""
    sums, slots, total = [], [], 0
    for member in members:
        total += member.weight
        sums.append(total)
        slots.append(member.slot)
    return [sums, slots]


def draw(group, random):
    sums, slots = group
    return slots[bisect_right(sums, random % sums[-1])] if sums else None


def percentage(text):
    if not re.fullmatch("[0-9]+%", text) or int(text[:-1]) > 100:
        raise Err(f"canary-share is `{text}`; it must be a whole percentage from `0%` to `100%`")
    return int(text[:-1])
