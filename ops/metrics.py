"""`toxmesh ops metrics`: prints the files that a monitoring system needs; no node is asked."""

from importlib import resources

import click

FILES = {"dashboard": "grafana/toxmesh.json", "alerts": "alerts/toxmesh.yml"}


@click.command("metrics")
@click.argument("what", type=click.Choice(list(FILES)))
def command(what: str) -> int:
    """Print a file for the system that watches nodes.

    dashboard: for Grafana, to be imported. alerts: rules for Prometheus (rule_files). The metrics
    themselves are at http://127.0.0.1:9745/metrics of a running node.
    """
    click.echo(resources.files("ops").joinpath(FILES[what]).read_text("utf-8"), nl=False)
    return 0
