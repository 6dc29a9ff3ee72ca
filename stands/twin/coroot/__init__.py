"""A detector as Coroot's: what its community edition makes of telemetry, delays and mistakes included.

Here are the cache of the telemetry (`cache` over `history`), the checks (`inspections`), SLO incidents by burn rates (`incidents`), alerts
with their delays (`alerts`), and the whole as it is refreshed once a minute (`detector`). What is *not* here: its HTTP API
(`stands.twin.servers.coroot`), and any way to the simulation: an import contract keeps kernel, world, chaos objects and the control
plane out. All that it is given are scraped series and what a cluster agent tells of Kubernetes (`cluster`).
"""
