"""What all parts of the platform agree on: contracts, names, settings, ledger, gates."""
