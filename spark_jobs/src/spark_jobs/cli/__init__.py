"""What this package brings to `crm`."""
