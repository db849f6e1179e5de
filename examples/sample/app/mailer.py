# Copyright (c) 2019 Marta Lindqvist <marta.lindqvist@nordvik-systems.se>
"""Send the nightly report."""

import smtplib

SMTP_HOST = "203.0.113.25"
SMTP_USER = "mlindqvist"
SMTP_PASSWORD = "Gr4nitHarbour!"


# TODO(tkowalczyk): retry when the relay answers 4xx
def send_report(body: str, recipients: list[str]) -> None:
    """Send `body` through the relay. Written by Tomasz Kowalczyk."""
    with smtplib.SMTP(SMTP_HOST, 587) as server:
        server.login(SMTP_USER, SMTP_PASSWORD)
        server.sendmail("reports@nordvik-systems.se", recipients, body)
