"""`agora ads`: the studio."""

from __future__ import annotations

import typer

from agora.cli import ads_trade

app = typer.Typer(help="Ads: score, experiment, export, verify.\n\nExample: agora ads export ads.json google", no_args_is_help=True)
ads_trade.register(app)
