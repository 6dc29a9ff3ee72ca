"""NetworkChaos: its records ➜ rules in PodNetworkChaos objects, one per ruled pod.

In: a record that is to be applied or recovered. Out: its next phase, and the pod's PodNetworkChaos as evidence.

The chaos daemon (`chaos_daemon`) applies a PodNetworkChaos a little later; until then the record waits, and one that waits for what can't
succeed can't be recovered either: such an object stays until its deletion is forced. Rules live as long as the pod.

Where a rule sits follows Chaos Mesh: netem acts on what leaves a pod, so `to` rules the pods of the selector and `from` those of
the target; a partition drops in iptables, which see both ways, and rules both ends.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from otel_control_gym.stands.twin.chaos_effects import FailedEffect, source_of
from otel_control_gym.stands.twin.controller import Context
from otel_control_gym.stands.twin.dns import service_of_host
from otel_control_gym.stands.twin.objects import POD, POD_NETWORK_CHAOS, Object

__all__ = ("NetworkEffect",)

_BLOCKS = ("delay", "loss", "corrupt")
_LISTS = ("iptables", "ipsets", "tcs")


class NetworkEffect:
    """Delay, loss, corruption and partition."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def identities(self, chaos: Object, pod: Object) -> Iterator[str]:  # noqa: ARG002 - whatever the chaos is
        """Yield `namespace/pod`: rules are the whole pod's."""
        yield f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"

    def move(self, draft: Object, item: Object, *, apply: bool) -> str:
        """Write or remove the rules of a record's pod, or see whether the daemon has followed."""
        namespace, name = item["id"].split("/")
        pod = self._context.store.get(POD, namespace, name)
        waiting = item["phase"].endswith("/Wait")
        if pod is None:
            if apply and not waiting:
                raise FailedEffect(f'Pod "{name}" not found')
            return "Injected" if apply else "Not Injected"
        if apply and not _is_ruled(draft["spec"], item["selectorKey"]):
            return "Injected"
        rules = self._context.store.get(POD_NETWORK_CHAOS, namespace, name)
        if waiting and rules is not None:
            return self._look(rules, str(item["phase"]), apply=apply)
        changed = self._write_rules(draft, item, pod, apply=apply)
        if not changed:
            return "Injected" if apply else "Not Injected"
        instances = draft["status"].setdefault("instances", {})
        if apply:
            instances[item["id"]] = changed["metadata"]["generation"]
        else:
            instances.pop(item["id"], None)
        return "Not Injected/Wait" if apply else "Injected/Wait"

    def _look(self, rules: Object, phase: str, *, apply: bool) -> str:
        """Return the phase of a record that waits for the daemon."""
        status = rules.get("status", {})
        if status.get("observedGeneration", 0) < rules["metadata"]["generation"]:
            return phase
        if status.get("failedMessage"):
            raise FailedEffect(status["failedMessage"])
        return "Injected" if apply else "Not Injected"

    def _write_rules(self, chaos: Object, item: Object, pod: Object, *, apply: bool) -> Object | None:
        """Put a chaos object's rules into the pod's PodNetworkChaos or take them out; None: there was nothing to change."""
        store = self._context.store
        namespace, name, source = pod["metadata"]["namespace"], pod["metadata"]["name"], source_of(chaos)
        existing = store.get(POD_NETWORK_CHAOS, namespace, name)
        rules = self._rules(chaos, item) if apply else {}
        if existing is None:
            if not apply:
                return None
            owner = {
                "apiVersion": "v1",
                "kind": "Pod",
                "name": name,
                "uid": pod["metadata"]["uid"],
                "blockOwnerDeletion": True,
            }
            metadata = {"name": name, "namespace": namespace, "ownerReferences": [owner]}
            return store.create(POD_NETWORK_CHAOS, {"metadata": metadata, "spec": rules}, self._context.now)
        draft = store.draft(POD_NETWORK_CHAOS, namespace, name)
        draft["spec"] = {
            key: [entry for entry in draft["spec"].get(key, ()) if entry["source"] != source] + rules.get(key, [])
            for key in _LISTS
        }
        stored = self._context.update(POD_NETWORK_CHAOS, draft)
        return None if stored is existing else stored

    def _rules(self, chaos: Object, item: Object) -> Object:
        """Return the part of a PodNetworkChaos' spec that a chaos object writes for one of its records."""
        spec, key = chaos["spec"], item["selectorKey"]
        sets = self._sets(chaos, key)
        if spec["action"] == "partition":
            return {"iptables": list(_drops(chaos, key, [entry["name"] for entry in sets])), "ipsets": sets, "tcs": []}
        blocks = {block: spec[block] for block in _BLOCKS if spec.get(block)}
        if not blocks:
            raise FailedEffect(f"invalid spec for netem action on {item['id']}: no block of {', '.join(_BLOCKS)}")
        rule = {"type": "netem", **blocks, "source": source_of(chaos), "device": spec.get("device", "")}
        return {"iptables": [], "ipsets": sets, "tcs": [rule | ({"ipset": sets[0]["name"]} if sets else {})]}

    def _sets(self, chaos: Object, key: str) -> list[Object]:
        """Return the addresses of the other side, as one set; none: there is no other side, the rule is for everything."""
        spec = chaos["spec"]
        external = spec.get("externalTargets") or () if key == "." else ()
        if not spec.get("target") and not external:
            return []
        other = ".Target" if key == "." else "."
        addresses = []
        for peer in chaos["status"]["experiment"]["containerRecords"]:
            pod = self._context.store.get(POD, *peer["id"].split("/"))
            if peer["selectorKey"] == other and pod is not None and pod["status"].get("podIP"):
                addresses.append(f"{pod['status']['podIP']}/32")
        found: Object = {
            "name": f"{chaos['metadata']['name']}_{'tgt' if other == '.Target' else 'src'}",
            "ipSetType": "hash:net",
            "cidrs": addresses,
            "source": source_of(chaos),
        }
        for text in external:
            network, port = self._resolve(chaos, text)
            if port is None:
                addresses.append(network)
            else:
                found.setdefault("cidrAndPorts", []).append({"cidr": network, "port": port})
        return [found]

    def _resolve(self, chaos: Object, text: str) -> tuple[str, int | None]:
        """Return the network of an external target (host, address or network, each with or without a port) and its port."""
        host, _, port = text.partition(":")
        if port and not port.isdecimal():
            raise FailedEffect(f'externalTargets: strconv.ParseUint: parsing "{port}": invalid syntax')
        service = service_of_host(self._context.store, chaos["metadata"]["namespace"], host)
        try:
            network = ipaddress.IPv4Network(service["spec"]["clusterIP"] if service is not None else host, strict=False)
        except ValueError:
            raise FailedEffect(f"lookup {host}: no such host") from None
        return str(network), int(port) if port else None


def _drops(chaos: Object, key: str, sets: list[str]) -> Iterator[Object]:
    """Yield a partition's iptables rules for one end: `to` drops what the selector's pods send, `from` what they are sent."""
    direction = chaos["spec"]["direction"]
    for way in ("output", "input"):
        if direction == "both" or (way == "output") == ((direction == "to") == (key == ".")):
            rule = {"name": f"{way.upper()}/{chaos['metadata']['name']}", "direction": way, "source": source_of(chaos)}
            yield rule | {"ipsets": sets, "device": chaos["spec"].get("device", "")}


def _is_ruled(spec: Object, selector_key: str) -> bool:
    """Return whether the pods of a selector carry rules."""
    if spec["direction"] == "both" or spec["action"] == "partition":
        return True
    return bool((selector_key == ".") == (spec["direction"] == "to"))
