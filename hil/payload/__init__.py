"""On-orbit payloads: budgets that can fail, radiation campaigns, mitigations and their prices."""
