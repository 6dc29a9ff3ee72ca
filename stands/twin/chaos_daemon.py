"""The chaos daemon's network side: a PodNetworkChaos ➜ what happens to packets in the simulated network.

In: PodNetworkChaos objects, the pods and Services that exist. Out: `PodRuntime.set_network_rule`, the object's status, and for the kubelet
what its probes meet (`Context.probe_paths`).

The trap with Services: a packet to a Service carries the ClusterIP while it is in its sender's pod, and so does the answer when it
arrives there (the node translates both ways). So in the network namespace of pod X another pod B is seen under its own IP only where B is
the client and X answers it; where X asks B, X sees B's ClusterIP. All edges of the application go through ClusterIPs. Hence
- netem in A with the pod IPs of B doesn't match what A asks of B, although every record says Injected; in B it matches the answers;
- a partition with rules at both ends works in each direction, because the end that answers sees the other one's pod IP;
- a ClusterIP named as an external target does match what A asks.

Iptables' INPUT is told to the network as what the others no longer get out towards the pod, which for everybody but the pods' users outside
the cluster is the same; the requests of those are taken in and their answers dropped.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from otel_control_gym.stands.twin.chaos_effects import FailedEffect, check_daemon
from otel_control_gym.stands.twin.chaos_quantities import milliseconds, share
from otel_control_gym.stands.twin.controller import Context, split_key, workload_of
from otel_control_gym.stands.twin.dns import cluster_ips, selected_pods
from otel_control_gym.stands.twin.objects import POD, POD_NETWORK_CHAOS, Object
from otel_control_gym.stands.twin.runtime import NetworkRule
from otel_control_gym.stands.twin.watches import Change

__all__ = ("NetworkDaemon",)

_DROP = NetworkRule(blocked=True)
_NOTHING = NetworkRule()

_Carried = dict[tuple[str, str], tuple[tuple[str, ...] | None, NetworkRule]]  # (carrier's UID, key) -> peers, rule


class NetworkDaemon:
    """Brings the network of pods in line with their PodNetworkChaos."""

    name = "chaos-daemon"

    def __init__(self, context: Context) -> None:
        self._context = context
        self._carried: dict[str, _Carried] = {}  # a ruled pod's UID -> the rules that it caused, its own and others'

    def observe(self, change: Change) -> None:
        """Queue a pod's rules that changed, and all rules when a pod got its process: it may be one that they mean."""
        if change.kind is POD_NETWORK_CHAOS:
            if change.type != "DELETED" and (change.before is None or change.before["spec"] != change.object["spec"]):
                after = self._context.settings.chaos_seconds / 4
                self._context.soon(self.name, change.object, after=after)
        elif change.kind is POD:
            uid = change.object["metadata"]["uid"]
            if change.type == "DELETED":
                self._context.soon(self.name, change.object, step=f"gone {uid}", after=0)
            elif _has_process(change.object) and not (change.before and _has_process(change.before)):
                for item in self._context.store.objects(POD_NETWORK_CHAOS):
                    if item["spec"]["tcs"] or item["spec"]["iptables"]:
                        self._context.soon(self.name, item, step="again", after=0)

    def reconcile(self, step: str, key: str) -> None:
        """Apply a pod's rules, or take back what a pod that is gone asked of others."""
        action, _, uid = step.partition(" ")
        if action == "gone":
            self._carry(uid, {})
            self._carried.pop(uid, None)
            self._context.probe_paths.pop(uid, None)
            return
        store = self._context.store
        item, pod = store.get(POD_NETWORK_CHAOS, *split_key(key)), store.get(POD, *split_key(key))
        if item is None or pod is None or not _has_process(pod):
            return
        failed = ""
        try:
            check_daemon(self._context, pod, f"unable to flush ip sets for pod {pod['metadata']['name']}")
            self._apply(pod, item)
        except FailedEffect as error:
            failed = str(error)
        if action != "again":
            draft = store.draft(POD_NETWORK_CHAOS, *split_key(key))
            draft["status"] = {"observedGeneration": item["metadata"]["generation"]}
            if failed:
                draft["status"]["failedMessage"] = failed
            store.update(POD_NETWORK_CHAOS, draft)

    def _apply(self, pod: Object, item: Object) -> None:
        uid = pod["metadata"]["uid"]
        sets = {entry["name"]: entry for entry in item["spec"]["ipsets"]}
        wanted: _Carried = {}
        paths: list[NetworkRule] = []
        for rule in item["spec"]["tcs"]:
            effect = _netem(rule)
            peers = self._neighbours(pod, [sets[rule["ipset"]]]) if "ipset" in rule else None
            if peers != () and effect != _NOTHING:
                wanted[uid, rule["source"]] = (peers, effect)
                if peers is None:
                    paths.append(effect)
        for rule in item["spec"]["iptables"]:
            named = [sets[name] for name in rule["ipsets"]]
            wanted |= self._drops(pod, rule["direction"], rule["source"], named)
            if not named:
                paths.append(_DROP)
        self._carry(uid, wanted)
        if self._context.probe_paths.get(uid, ()) != tuple(paths):
            self._context.probe_paths[uid] = tuple(paths)
            self._context.soon("kubelet", pod, step=f"path {uid}", after=0)

    def _drops(self, pod: Object, direction: str, source: str, sets: list[Object]) -> _Carried:
        """Return the rules by which an iptables rule of a pod is kept."""
        uid = pod["metadata"]["uid"]
        peers = self._neighbours(pod, sets) if sets else None
        if direction == "output":
            return {} if peers == () else {(uid, f"{source} out"): (peers, _DROP)}
        drops: _Carried = {
            (sender, f"{source} into {uid}"): ((uid,), _DROP)
            for sender in (self._others(uid) if peers is None else peers)
        }
        if peers is None and workload_of(pod) == self._context.services.entry:
            drops[uid, f"{source} users"] = (None, _DROP)
        return drops

    def _carry(self, uid: str, wanted: _Carried) -> None:
        """Change the network from what a pod's rules made of it to what they make of it now."""
        before = self._carried.get(uid, {})
        if not before and not wanted:
            return
        alive = {item["metadata"]["uid"]: None for item in self._context.store.objects(POD) if _has_process(item)}
        for (carrier, key), what in before.items():
            if (carrier, key) not in wanted and carrier in alive:
                self._context.runtime.set_network_rule(carrier, key, peers=what[0], rule=None)
        for (carrier, key), what in wanted.items():
            if before.get((carrier, key)) != what:
                self._context.runtime.set_network_rule(carrier, key, peers=what[0], rule=what[1])
        self._carried[uid] = wanted

    def _neighbours(self, pod: Object, sets: list[Object]) -> tuple[str, ...]:
        """Return the UIDs of the pods that a pod sees under an address of the sets: its clients by IP, the asked by ClusterIP."""
        application, store = self._context.services, self._context.store
        clients = {edge.source for edge in application.edges if edge.target == workload_of(pod)}
        for topic in application.topics.values():
            if topic.broker == workload_of(pod):
                clients |= {consumer.service for consumer in topic.consumers}
        asked = {
            pod["metadata"]["uid"]: None
            for address, item in cluster_ips(store).items()
            if any(_contains(entry, address, [port["port"] for port in item["spec"]["ports"]]) for entry in sets)
            for pod in selected_pods(store, item)
        }
        return tuple(
            other["metadata"]["uid"]
            for other in store.objects(POD)
            if _has_process(other)
            and (
                other["metadata"]["uid"] in asked
                or (workload_of(other) in clients and any(_contains(entry, _address(other), []) for entry in sets))
            )
        )

    def _others(self, uid: str) -> Iterator[str]:
        for item in self._context.store.objects(POD):
            if item["metadata"]["uid"] != uid and _has_process(item):
                yield item["metadata"]["uid"]


def _netem(rule: Object) -> NetworkRule:
    """Return what a netem rule does to packets: a corrupted one is lost, because its check sum is wrong."""
    delay, kept = rule.get("delay", {}), 1.0
    for block in ("loss", "corrupt"):
        part = share(rule.get(block, {}).get(block, "0"))
        if part is None or not 0 <= part <= 1:
            raise FailedEffect(f'Illegal "{block} percent"')
        kept *= 1 - part
    return NetworkRule(
        latency_ms=milliseconds(delay.get("latency", "0ms")),
        jitter_ms=milliseconds(delay.get("jitter", "0ms")),
        loss=round(1 - kept, 12),
    )


def _contains(ipset: Object, address: str, ports: list[int]) -> bool:
    """Return whether a set holds an address, with any of the ports where it names them."""
    where = ipaddress.IPv4Address(address)
    return any(where in ipaddress.IPv4Network(cidr) for cidr in ipset["cidrs"]) or any(
        where in ipaddress.IPv4Network(entry["cidr"]) and entry["port"] in ports
        for entry in ipset.get("cidrAndPorts", ())
    )


def _address(pod: Object) -> str:
    return str(pod["status"]["podIP"])


def _has_process(pod: Object) -> bool:
    """Return whether the simulated machines know the pod: a container of it has run."""
    return any("containerID" in status for status in pod["status"].get("containerStatuses", ()))
