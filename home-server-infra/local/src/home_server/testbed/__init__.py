"""Test hosts for the playbooks: systemd hosts with addresses of their own on one machine, gone afterwards."""
