"""What chaos does to pods: stress in a container's CPU quota, delay rules in a pod's network namespace.

In: a record that is to be applied or recovered. Out: its next phase, calls of the `PodRuntime`, PodNetworkChaos objects as evidence.

CPU stress is a process in the container: it starts at once and dies with the container. Network rules go through one
PodNetworkChaos per ruled pod, which the chaos daemon applies a little later; until then the record waits. They live as long as the pod.

The trap with Services: a packet to a Service carries the ClusterIP while it is in its sender's pod, so a rule for the pod IPs of B,
sitting in A, doesn't match what A asks of B; it matches only what A answers to B. Direction `to` on an edge A ➜ B is therefore
without effect, although every record says Injected; direction `from` puts the rule into B, where it matches B's answers to A. All
edges of the application go through ClusterIPs, so a rule reaches the packets to those peers alone that are clients of the ruled pod.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from otel_control_gym.stands.twin.chaos_admission import memory_bytes, milliseconds, ramp_seconds
from otel_control_gym.stands.twin.controller import Context, workload_of
from otel_control_gym.stands.twin.objects import POD, POD_NETWORK_CHAOS, Object, timestamp
from otel_control_gym.stands.twin.runtime import NetworkRule

__all__ = ("Effect", "FailedEffect", "NetworkEffect", "StressEffect")

_TOOL_BYTES = 4 * 2**20  #: what memStress itself holds, beside the memory it was asked to hold


class FailedEffect(Exception):
    """Raised when a pod can't be stressed, ruled, or freed; its text goes into the record."""


class Effect(Protocol):
    """How one kind of chaos reaches its targets."""

    def identities(self, chaos: Object, pod: Object) -> Iterator[str]:
        """Yield the ids of the records that a chosen pod gets."""
        ...

    def move(self, draft: Object, item: Object, *, apply: bool) -> str:
        """Apply or recover one record and return its new phase; may note instances in the draft's status.

        Raises: FailedEffect: it can't be done now.
        """
        ...


class StressEffect:
    """CPU and memory stress: one stressor of a kind per chosen container. Who dies with the container isn't started again."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def identities(self, chaos: Object, pod: Object) -> Iterator[str]:
        """Yield `namespace/pod/container` for the containers named, or the first one."""
        names = [container["name"] for container in pod["spec"]["containers"]]
        wanted = chaos["spec"].get("containerNames") or names[:1]
        for name in names:
            if name in wanted:
                yield f"{pod['metadata']['namespace']}/{pod['metadata']['name']}/{name}"

    def move(self, draft: Object, item: Object, *, apply: bool) -> str:
        """Start or stop the stressor of a container; one whose pod is gone is gone, too."""
        namespace, name, _ = item["id"].split("/")
        pod = self._context.store.get(POD, namespace, name)
        instances = draft["status"].setdefault("instances", {})
        if not apply:
            if instances.pop(item["id"], None) is not None and pod is not None:
                self._stop(draft, pod["metadata"]["uid"])
            return "Not Injected"
        if pod is None or not _running(pod):
            raise FailedEffect(f"container of {item['id']} not found or not running")
        instance = self._start(draft, pod["metadata"]["uid"])
        if instance:
            instances[item["id"]] = instance
        return "Injected"

    def _start(self, chaos: Object, uid: str) -> Object:
        """Start the stressors that have workers in a pod, and return what tells of them."""
        runtime, stressors, now = self._context.runtime, chaos["spec"]["stressors"], timestamp(self._context.now)
        instance: Object = {}
        if "cpu" in stressors and (workers := stressors["cpu"]["workers"]) > 0:
            load = stressors["cpu"].get("load", 100) / 100
            runtime.set_cpu_stress(uid, _source(chaos), workers=workers, load=load)
            instance |= {"uid": self._context.store.new_uid("Stressor"), "startTime": now}
        if "memory" in stressors and stressors["memory"]["workers"] > 0:
            size, ramp = memory_bytes(stressors["memory"]["size"]), ramp_seconds(stressors["memory"].get("options"))
            assert size is not None, "the webhook has seen to it"
            assert ramp is not None, "and to this"
            runtime.set_memory_stress(uid, _source(chaos), size_bytes=size + _TOOL_BYTES, ramp_seconds=ramp)
            instance |= {"memoryUid": self._context.store.new_uid("Stressor"), "memoryStartTime": now}
        return instance

    def _stop(self, chaos: Object, uid: str) -> None:
        runtime, stressors = self._context.runtime, chaos["spec"]["stressors"]
        if "cpu" in stressors:
            runtime.set_cpu_stress(uid, _source(chaos), workers=stressors["cpu"]["workers"], load=0.0)
        if "memory" in stressors:
            runtime.set_memory_stress(uid, _source(chaos), size_bytes=0, ramp_seconds=0.0)


class NetworkEffect:
    """Network delay: rules in PodNetworkChaos objects, and the daemon that applies them."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._applied: dict[str, tuple[str, ...]] = {}  # a pod's UID -> the sources of its rules

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
            done = rules.get("status", {}).get("observedGeneration", 0) >= rules["metadata"]["generation"]
            return ("Injected" if apply else "Not Injected") if done else str(item["phase"])
        changed = self._write_rules(draft, item, pod, apply=apply)
        if not changed:
            return "Injected" if apply else "Not Injected"
        instances = draft["status"].setdefault("instances", {})
        if apply:
            instances[item["id"]] = changed["metadata"]["generation"]
        else:
            instances.pop(item["id"], None)
        return "Not Injected/Wait" if apply else "Injected/Wait"

    def apply_rules(self, namespace: str, name: str) -> None:
        """Be the daemon: bring a pod's network rules in line with its PodNetworkChaos."""
        store, rules = self._context.store, self._context.store.get(POD_NETWORK_CHAOS, namespace, name)
        pod = store.get(POD, namespace, name)
        if rules is None or pod is None or not _running(pod):
            return
        draft = store.draft(POD_NETWORK_CHAOS, namespace, name)
        uid, wanted = pod["metadata"]["uid"], {rule["source"]: rule for rule in rules["spec"]["tcs"]}
        for source in self._applied.get(uid, ()):
            if source not in wanted:
                self._context.runtime.set_network_rule(uid, source, peers=None, rule=None)
        for source, rule in wanted.items():
            self._set_delay(pod, rules, source, rule)
        self._applied[uid] = tuple(wanted)
        draft["status"] = {"observedGeneration": rules["metadata"]["generation"]}
        store.update(POD_NETWORK_CHAOS, draft)

    def _set_delay(self, pod: Object, rules: Object, source: str, rule: Object) -> None:
        peers: tuple[str, ...] | None = None
        if "ipset" in rule:
            addresses = next(item["cidrs"] for item in rules["spec"]["ipsets"] if item["name"] == rule["ipset"])
            peers = self._answered(pod, addresses)
            if not peers:
                return
        latency, jitter = milliseconds(rule["delay"]["latency"]), milliseconds(rule["delay"]["jitter"])
        effect = NetworkRule(latency_ms=latency, jitter_ms=jitter)
        self._context.runtime.set_network_rule(pod["metadata"]["uid"], source, peers=peers, rule=effect)

    def _answered(self, pod: Object, addresses: list[str]) -> tuple[str, ...]:
        """Return the UIDs of the pods behind addresses that are clients of the ruled pod, and so get packets under their own IP."""
        clients = {edge.source: True for edge in self._context.services.edges if edge.target == workload_of(pod)}
        return tuple(
            other["metadata"]["uid"]
            for other in self._context.store.objects(POD)
            if f"{other['status'].get('podIP')}/32" in addresses and workload_of(other) in clients
        )

    def _write_rules(self, chaos: Object, item: Object, pod: Object, *, apply: bool) -> Object | None:
        """Put a chaos object's rule into the pod's PodNetworkChaos or take it out; None: there was nothing to change."""
        store = self._context.store
        namespace, name, source = pod["metadata"]["namespace"], pod["metadata"]["name"], _source(chaos)
        existing = store.get(POD_NETWORK_CHAOS, namespace, name)
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
            rule = self._rule(chaos, item)
            return store.create(POD_NETWORK_CHAOS, {"metadata": metadata, "spec": rule}, self._context.now)
        draft = store.draft(POD_NETWORK_CHAOS, namespace, name)
        spec = {
            key: [entry for entry in draft["spec"].get(key, ()) if entry["source"] != source]
            for key in ("iptables", "ipsets", "tcs")
        }
        if apply:
            for key, entries in self._rule(chaos, item).items():
                spec[key] += entries
        draft["spec"] = spec
        stored = self._context.update(POD_NETWORK_CHAOS, draft)
        return None if stored is existing else stored

    def _rule(self, chaos: Object, item: Object) -> Object:
        """Return the part of a PodNetworkChaos' spec that a chaos object writes for one of its records."""
        source, spec = _source(chaos), chaos["spec"]
        delay = {key: spec["delay"][key] for key in ("latency", "jitter", "correlation")}
        rule = {"type": "netem", "delay": delay, "source": source, "device": spec.get("device", "")}
        if not spec.get("target"):
            return {"iptables": [], "ipsets": [], "tcs": [rule]}
        other = ".Target" if item["selectorKey"] == "." else "."
        addresses = []
        for peer in chaos["status"]["experiment"]["containerRecords"]:
            pod = self._context.store.get(POD, *peer["id"].split("/"))
            if peer["selectorKey"] == other and pod is not None and pod["status"].get("podIP"):
                addresses.append(f"{pod['status']['podIP']}/32")
        name = f"{chaos['metadata']['name']}_{'tgt' if other == '.Target' else 'src'}"
        ipset = {"name": name, "ipSetType": "hash:net", "cidrs": addresses, "source": source}
        return {"iptables": [], "ipsets": [ipset], "tcs": [rule | {"ipset": name}]}


def _is_ruled(spec: Object, selector_key: str) -> bool:
    """Return whether the pods of a selector carry rules: the sources for `to`, the targets for `from`."""
    if spec["direction"] == "both":
        return True
    return bool((selector_key == ".") == (spec["direction"] == "to"))


def _running(pod: Object) -> bool:
    return any("running" in status["state"] for status in pod["status"].get("containerStatuses", ()))


def _source(chaos: Object) -> str:
    return f"{chaos['metadata']['namespace']}/{chaos['metadata']['name']}"
